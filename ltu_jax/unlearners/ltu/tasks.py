"""What one step of LTU looks at: its state, its batches and the losses of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import InputError
from ltu_jax.training.losses import cross_entropy, distillation, distilled_cross_entropy
from ltu_jax.training.sampling_order import rows_at
from ltu_jax.training.supervised import predict
from ltu_jax.types import DataSpec, Examples, Key, Model, PyTree, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.memory import economical
from ltu_jax.unlearners.ltu.objectives import sliced_wasserstein as joint
from ltu_jax.unlearners.ltu.objectives.calibrated import Calibration, calibrate, calibrated_losses
from ltu_jax.unlearners.ltu.objectives.reference import Reference, find_reference, stand_ins
from ltu_jax.unlearners.ltu.sampling import QueryPool, cluster_outputs, draw_queries, random_labels

MIN_QUERY_SIZE = 8


class LTUState(NamedTuple):
    """What LTU carries from step to step.

    Attributes:
      variables: the network being unlearned.
      opt_state: of the outer optimizer.
      models: the fitted MI models, frozen; where the target is joint, what random ones aim at.
      pool: what query sampling needs.
      teacher: `[n, C]` logits of the original model on the accessible retain set.
      allowed: `[C]` classes that random labels are drawn from.
      calibration: what is expected of each forget example; None unless the target is calibrated.
      anchor: what holds held-out outputs in place; None unless it is asked for.
    """

    variables: Variables
    opt_state: optax.OptState
    models: mi.Ensemble | joint.Joint
    pool: QueryPool
    teacher: jax.Array
    allowed: jax.Array
    calibration: Calibration | None
    anchor: Anchor | None


class Anchor(NamedTuple):
    """Validation examples whose outputs are to stay.

    Attributes:
      rows: `[n]` those of the classes that stay.
      teacher: `[M, C]` the original model's logits for all validation examples.
    """

    rows: jax.Array
    teacher: jax.Array


class LTUBatch(NamedTuple):
    """One step's worth of data.

    Attributes:
      support: `[B]` forget examples, under random labels.
      audit: `[B]` forget examples, under their true labels, for the MI models.
      audit_rows: `[B]` which ones they are.
      queries: `[N * Q]` accessible retain examples: N disjoint query sets, one after another.
      teacher: `[N * Q, C]` the original model's logits for `queries`.
      slices: the MI models of a joint target; else None.
      anchor: inputs `[A, ...]` of validation examples and the original's logits `[A, C]`, or None.
    """

    support: Examples
    audit: Examples
    audit_rows: jax.Array
    queries: Examples
    teacher: jax.Array
    slices: joint.Slices | None = None
    anchor: tuple[jax.Array, jax.Array] | None = None


class Tasks(NamedTuple):
    """The losses of one step, each a function of the parameters.

    Attributes:
      random_labels: scalar, cross-entropy of the support batch to its random labels.
      queries: `[N]`, one per query set.
      membership: `[K]`, one per MI model, all on the audit batch.
    """

    random_labels: Callable[[PyTree], jax.Array]
    queries: Callable[[PyTree], jax.Array]
    membership: Callable[[PyTree], jax.Array]


class BatchSizes(NamedTuple):
    """How many examples a step looks at: never more than there are."""

    support: int
    audit: int
    query: int


def batch_sizes(config: LTUConfig, spec: DataSpec) -> BatchSizes:
    """Return the sizes that `config` asks for, cut down to what the data hold.

    Raises:
      InputError: N disjoint query sets of a useful size do not fit into the accessible retain set.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    num_queries = len(config.query_sampling)
    query_size = min(config.query_size, num_retain // num_queries)
    if query_size < MIN_QUERY_SIZE:
        raise InputError(
            f"--retain-fraction leaves {num_retain} accessible retain examples, too few for "
            f"{num_queries} disjoint query sets of at least {MIN_QUERY_SIZE}; raise it"
        )
    return BatchSizes(
        min(config.support_size, num_forget), min(config.audit_size, num_forget), query_size
    )


def prepare_state(
    key: Key,
    model: Model,
    variables: Variables,
    opt_state: optax.OptState,
    data: UnlearnData,
    num_classes: int,
    config: LTUConfig,
) -> LTUState:
    """Run the original over what it may be run over; fit the MI models to its outputs."""
    teacher = predict(model, variables, data.retain.inputs)
    nonmembers = (predict(model, variables, data.validation.inputs), data.validation.labels)
    kept = jnp.isin(jnp.arange(num_classes), data.retain.labels)
    reference = None
    if config.stand_ins != "heldout":
        seen = UnlearnData(
            Examples(predict(model, variables, data.forget.inputs), data.forget.labels),
            Examples(teacher, data.retain.labels),
            Examples(*nonmembers),
        )
        own_key = jax.random.fold_in(key, 3)
        reference = find_reference(own_key, model, data, seen, ~kept, config.stand_ins)
    aims = stand_ins(data.forget.labels, nonmembers, ~kept, reference)
    if config.membership_target == "joint":
        models = joint.aim(key, *aims, config.directions)
    else:
        models = mi.fit_ensemble(
            key,
            config.membership,
            (teacher, data.retain.labels),
            nonmembers,
            aims,
            quantiles=batch_sizes(config, spec_of(data, num_classes)).audit,
        )
    pool = QueryPool(
        labels=data.retain.labels,
        losses=cross_entropy(teacher, data.retain.labels),
        clusters=jnp.asarray(cluster_outputs(teacher, num_classes, seed=0)),
    )
    calibration = None
    if config.membership_target == "calibrated":
        own_key = jax.random.fold_in(key, 1)
        calibration = calibrate(
            own_key, model, variables, data, config.membership, models, kept, config.calibration
        )
    anchor = None
    if config.anchor:
        stays = anchored(nonmembers, kept, reference)
        anchor = Anchor(jnp.asarray(stays), nonmembers[0])
    if config.shake:
        shake_key = jax.random.fold_in(key, 2)
        variables = variables._replace(params=shaken(shake_key, variables.params, config.shake))
    return LTUState(variables, opt_state, models, pool, teacher, kept, calibration, anchor)


def anchored(
    heldout: tuple[jax.Array, jax.Array], kept: jax.Array, reference: Reference | None
) -> np.ndarray:
    """Return the rows of validation examples whose outputs are to stay.

    They are of the classes that stay, and a reference, if there is one, agrees on them. There are
    as many rows then as examples, some of them more than once, so that all networks of a pool have
    as many.
    """
    logits, labels = heldout
    stays = np.isin(labels, np.flatnonzero(kept))
    if reference is None:
        return np.flatnonzero(stays)
    agreed = stays & reference.agrees(logits)
    rows = np.flatnonzero(agreed if agreed.any() else stays)
    return np.resize(rows, len(labels))


def shaken(key: Key, params: PyTree, share: float) -> PyTree:
    """Return parameters with noise in all matrices, `share` times as spread as they are."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [
        x + share * jnp.std(x) * jax.random.normal(k, x.shape, x.dtype) if x.ndim > 1 else x
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def draw_batch(
    key: Key,
    state: LTUState,
    data: UnlearnData,
    sizes: BatchSizes,
    num_classes: int,
    config: LTUConfig,
) -> LTUBatch:
    """Draw support, audit and query sets; the three draws are independent of each other."""
    support_key, label_key, audit_key, query_key = jax.random.split(key, 4)
    support = _take(data.forget, _draw(support_key, data.forget, sizes.support))
    audit_rows = _draw(audit_key, data.forget, sizes.audit)
    labels = random_labels(label_key, support.labels, state.allowed)
    rows = draw_queries(query_key, config.query_sampling, state.pool, num_classes, sizes.query)
    slices = anchor = None
    if isinstance(state.models, joint.Joint):
        slice_key = jax.random.fold_in(key, 4)
        slices = joint.slices(slice_key, state.models, config.directions, sizes.audit)
    if state.anchor is not None:
        size = min(config.anchor_size, len(state.anchor.rows))
        drawn = rows_at(jax.random.fold_in(key, 5), jnp.arange(size), len(state.anchor.rows))
        drawn = state.anchor.rows[drawn]
        anchor = data.validation.inputs[drawn], state.anchor.teacher[drawn]
    return LTUBatch(
        support=support._replace(labels=labels),
        audit=_take(data.forget, audit_rows),
        audit_rows=audit_rows,
        queries=_take(data.retain, rows.reshape(-1)),
        teacher=state.teacher[rows.reshape(-1)],
        slices=slices,
        anchor=anchor,
    )


def tasks(model: Model, state: LTUState, batch: LTUBatch, config: LTUConfig) -> Tasks:
    """Return the losses that one step differentiates."""

    def forward(params: PyTree, inputs) -> jax.Array:
        return model.apply(Variables(params, state.variables.state), inputs)[0]

    logits_of = economical(forward, config.remat, config.micro_batches)

    def random_labels_loss(params: PyTree) -> jax.Array:
        logits = logits_of(params, batch.support.inputs)
        return cross_entropy(logits, batch.support.labels).mean()

    def query_losses(params: PyTree) -> jax.Array:
        logits = logits_of(params, batch.queries.inputs)
        losses = distilled_cross_entropy(
            logits, batch.queries.labels, batch.teacher, config.distill, config.temperature
        )
        losses = losses.reshape(len(config.query_sampling), -1).mean(-1)
        if batch.anchor is None:
            return losses
        inputs, teacher = batch.anchor
        held = distillation(logits_of(params, inputs), teacher, config.temperature)
        return losses + config.anchor * held.mean()

    def membership_losses(params: PyTree) -> jax.Array:
        seen = logits_of(params, batch.audit.inputs), batch.audit.labels
        specs, target = config.membership, config.membership_target
        if target == "joint":
            return joint.joint_losses(state.models, batch.slices, *seen)
        if target != "calibrated":
            return mi.membership_losses(specs, state.models, *seen, target)
        weights = config.calibration.weights
        expected = state.calibration
        return calibrated_losses(specs, state.models, expected, weights, *seen, batch.audit_rows)

    return Tasks(random_labels_loss, query_losses, membership_losses)


def _draw(key: Key, examples: Examples, size: int) -> jax.Array:
    return rows_at(key, jnp.arange(size), len(examples.labels))


def _take(examples: Examples, rows: jax.Array) -> Examples:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), examples)
