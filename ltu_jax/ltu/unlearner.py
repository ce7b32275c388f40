r"""LTU, the unlearner: two meta-gradients and a harmonizer (arXiv 2407.10494).

The method is three lines, found again in `ltu.<locals>.step`::

    remember = meta_gradient(random-label loss on D_f, losses on N query sets of D_r)
    forget   = meta_gradient(losses of some MI models on D_f, losses of the other MI models on D_f)
    theta   <- optimizer(theta, harmonize(remember, forget))

The paper leaves much open; what is chosen here follows experiments and is stated at each knob.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import InputError
from ltu_jax.ltu import membership as mi
from ltu_jax.ltu.calibration import Calibration, calibrate, calibrated_losses
from ltu_jax.ltu.config import LTUConfig
from ltu_jax.ltu.harmonize import harmonize
from ltu_jax.ltu.memory import economical
from ltu_jax.ltu.meta import meta_gradient
from ltu_jax.ltu.sampling import QueryPool, cluster_outputs, draw_queries, random_labels
from ltu_jax.training.losses import cross_entropy, distilled_cross_entropy
from ltu_jax.training.shuffle import rows_at
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Claims,
    Examples,
    Info,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)

MIN_QUERY_SIZE = 8


class LTUState(NamedTuple):
    """What LTU carries from step to step.

    Attributes:
      variables: the network being unlearned.
      opt_state: of the outer optimizer.
      ensemble: the MI models, frozen.
      pool: what query sampling needs.
      teacher: `[n, C]` logits of the original model on the accessible retain set.
      allowed: `[C]` classes that random labels are drawn from.
      calibration: what is expected of each forget example; None unless the target is calibrated.
    """

    variables: Variables
    opt_state: optax.OptState
    ensemble: mi.Ensemble
    pool: QueryPool
    teacher: jax.Array
    allowed: jax.Array
    calibration: Calibration | None


class LTUBatch(NamedTuple):
    """One step's worth of data.

    Attributes:
      support: `[B]` forget examples, under random labels.
      audit: `[B]` forget examples, under their true labels, for the MI models.
      audit_rows: `[B]` which ones they are.
      queries: `[N * Q]` accessible retain examples: N disjoint query sets, one after another.
      teacher: `[N * Q, C]` the original model's logits for `queries`.
    """

    support: Examples
    audit: Examples
    audit_rows: jax.Array
    queries: Examples
    teacher: jax.Array


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


def ltu(
    model: Model, data: UnlearnData, num_classes: int, config: LTUConfig = LTUConfig()
) -> Unlearner:
    """Build the LTU unlearner.

    BatchNorm: every pass of both branches normalises with the stored statistics, as the deployed
    model will; the statistics are updated once per outer step, from the query sets. Random-label
    and audit passes never touch them. Dropout and augmentation are off.

    Args:
      model: takes raw inputs.
      data: only its sizes are read here.
      num_classes: C.
      config: see `LTUConfig`.

    Returns:
      The unlearner.

    Raises:
      InputError: the accessible retain set is too small for the query sets.
    """
    sizes = batch_sizes(config, data)
    tx = config.optimizer()

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> LTUState:
        opt_state = tx.init(variables.params)
        return prepare_state(key, model, variables, opt_state, data, num_classes, config)

    def sample(key: Key, t: jax.Array, state: LTUState, data: UnlearnData) -> LTUBatch:
        del t
        return draw_batch(key, state, data, sizes, num_classes, config)

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        params = state.variables.params
        task = tasks(model, state, batch, config)
        support, query = split_tasks(key, len(config.membership), config.membership_support)

        remember, remembered = meta_gradient(
            task.random_labels, task.queries, params, config.random_label_inner, config.tune_weight
        )
        forget, forgot = meta_gradient(
            lambda p: task.membership(p)[support].mean(),
            lambda p: task.membership(p)[query],
            params,
            config.membership_inner,
            config.membership_tune_weight,
        )
        forget = optax.tree.scale(config.forget_weight, forget)
        direction, conflict = harmonize(remember, forget, config.harmonize)

        updates, opt_state = tx.update(direction, state.opt_state, params)
        variables = state.variables._replace(params=optax.apply_updates(params, updates))
        variables = refresh_statistics(model, key, variables, batch.queries.inputs)
        info = {
            "loss_random_label": remembered.tune_loss,
            "loss_remember": remembered.query_losses.mean(),
            "loss_forget": forgot.query_losses.mean(),
            "norm_random_label": remembered.tune_norm,
            "norm_remember": conflict.norms[0],
            "norm_forget": conflict.norms[1],
            "cosine": conflict.cosine,
            "conflict": conflict.conflict,
            "effective_models": state.ensemble.effective,
        }
        return state._replace(variables=variables, opt_state=opt_state), info

    claims = Claims(uses_validation=True)
    return Unlearner(prepare, sample, step, lambda state: state.variables, config.steps, claims)


class BatchSizes(NamedTuple):
    """How many examples a step looks at: never more than there are."""

    support: int
    audit: int
    query: int


def batch_sizes(config: LTUConfig, data: UnlearnData) -> BatchSizes:
    """Return the sizes that `config` asks for, cut down to what `data` has.

    Raises:
      InputError: N disjoint query sets of a useful size do not fit into the accessible retain set.
    """
    num_forget, num_retain = len(data.forget.labels), len(data.retain.labels)
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
    ensemble = mi.fit_ensemble(
        key,
        config.membership,
        (teacher, data.retain.labels),
        nonmembers,
        mi.stand_ins(data.forget.labels, nonmembers, ~kept),
        quantiles=batch_sizes(config, data).audit,
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
            own_key, model, variables, data, config.membership, ensemble, kept, config.calibration
        )
    return LTUState(variables, opt_state, ensemble, pool, teacher, kept, calibration)


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
    return LTUBatch(
        support=support._replace(labels=labels),
        audit=_take(data.forget, audit_rows),
        audit_rows=audit_rows,
        queries=_take(data.retain, rows.reshape(-1)),
        teacher=state.teacher[rows.reshape(-1)],
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
        return losses.reshape(len(config.query_sampling), -1).mean(-1)

    def membership_losses(params: PyTree) -> jax.Array:
        seen = logits_of(params, batch.audit.inputs), batch.audit.labels
        specs, target = config.membership, config.membership_target
        if target != "calibrated":
            return mi.membership_losses(specs, state.ensemble, *seen, target)
        weights = config.calibration.weights
        expected = state.calibration
        return calibrated_losses(specs, state.ensemble, expected, weights, *seen, batch.audit_rows)

    return Tasks(random_labels_loss, query_losses, membership_losses)


def split_tasks(key: Key, count: int, support: int) -> tuple[jax.Array, jax.Array]:
    """Return which of K tasks are the support and which the queries of this step."""
    order = jax.random.permutation(key, count)
    return (order, order) if count == 1 else (order[:support], order[support:])


def refresh_statistics(model: Model, key: Key, variables: Variables, inputs) -> Variables:
    """Return `variables` with BatchNorm statistics updated by one training pass over `inputs`."""
    if not jax.tree.leaves(variables.state):
        return variables
    _, state = model.apply(variables, inputs, train=True, key=key)
    return variables._replace(state=state)


def _draw(key: Key, examples: Examples, size: int) -> jax.Array:
    return rows_at(key, jnp.arange(size), len(examples.labels))


def _take(examples: Examples, rows: jax.Array) -> Examples:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), examples)
