"""State, batches and losses of a step, shared by LTU and its control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ltu_jax.errors import InputError, warn
from ltu_jax.training.losses import cross_entropy, distillation, distilled_cross_entropy
from ltu_jax.training.sampling_order import balanced_rows
from ltu_jax.types import DataSpec, Examples, Key, Model, PyTree, UnlearnData, Variables
from ltu_jax.unlearners.ltu.config import MatchingConfig
from ltu_jax.unlearners.ltu.heldout import HeldoutTeacher, draw_heldout, heldout_teacher
from ltu_jax.unlearners.ltu.memory import rematerialized
from ltu_jax.unlearners.ltu.objectives.base import Forgetting, make_context
from ltu_jax.unlearners.ltu.sampling import (
    QuerySampling,
    QuerySource,
    cluster_outputs,
    draw_queries,
    random_labels,
)

MIN_QUERY_SIZE = 4
USUAL_QUERY_SIZE = 8  # below it a step's query losses are mostly noise
USUAL_VALIDATION = 10
MIN_VALIDATION = 2  # the spread of scores on validation examples is a unit of the losses


class LTUState(NamedTuple):
    """The state of LTU between steps.

    Attributes:
      variables: the model being unlearned.
      opt_state: state of the outer optimizer.
      forgetting: state of the forgetting objective, fitted once.
      source: the accessible retain set, as query sampling sees it.
      teacher: `[n, C]` logits of the original model on the accessible retain set.
      allowed: `[C]` classes that random labels are drawn from.
      heldout: teacher of held-out distillation; None without.
    """

    variables: Variables
    opt_state: optax.OptState
    forgetting: Any
    source: QuerySource
    teacher: jax.Array
    allowed: jax.Array
    heldout: HeldoutTeacher | None


class LTUBatch(NamedTuple):
    """The data of one step; its shapes follow from the options, not from the request.

    Attributes:
      support: `[B]` forget examples under random labels.
      audit: `[B]` forget examples under their true labels, for the forgetting objective.
      queries: `[N * Q]` accessible retain examples: N disjoint query sets, one after another.
      teacher: `[N * Q, C]` the original model's logits for `queries`.
      draw: random part of the forgetting objective.
      heldout: validation inputs `[M, ...]` and the original's logits `[M, C]`, or None.
    """

    support: Examples
    audit: Examples
    queries: Examples
    teacher: jax.Array
    draw: Any
    heldout: tuple[jax.Array, jax.Array] | None


class Losses(NamedTuple):
    """The losses of one step, each a function of the parameters.

    Attributes:
      random_labels: scalar, cross-entropy of the support batch to its random labels.
      queries: `[N]`, one per query set.
      membership: `[K]`, those of the forgetting objective, all on the audit batch.
    """

    random_labels: Callable[[PyTree], jax.Array]
    queries: Callable[[PyTree], jax.Array]
    membership: Callable[[PyTree], jax.Array]


class Tasks(NamedTuple):
    """How states, batches and losses are made.

    Attributes:
      prepare: `(key, variables, data) -> LTUState`.
      sample: `(key, t, state, data) -> LTUBatch`; its parts are drawn independently.
      losses: `(state, batch) -> Losses`.
      descend: `(key, state, batch, direction) -> LTUState`, one step of the outer optimizer.
    """

    prepare: Callable[[Key, Variables, UnlearnData], LTUState]
    sample: Callable[[Key, jax.Array, LTUState, UnlearnData], LTUBatch]
    losses: Callable[[LTUState, LTUBatch], Losses]
    descend: Callable[[Key, LTUState, LTUBatch, PyTree], LTUState]


def query_size(spec: DataSpec, config: MatchingConfig, num_queries: int) -> int:
    """Return the examples of a query set: those that `config` asks for, or as many as there are.

    Raises:
      InputError: N disjoint query sets do not fit into the accessible retain set, or there are too
        few validation examples.
    """
    size = min(config.query_size, spec.num_retain // num_queries)
    if size < MIN_QUERY_SIZE:
        raise InputError(
            "retain_fraction",
            f"leaves {spec.num_retain} accessible retain examples, too few for {num_queries} "
            f"disjoint query sets of at least {MIN_QUERY_SIZE}",
            "raise it",
        )
    if spec.num_validation < MIN_VALIDATION:
        raise InputError(
            "data",
            f"leaves {spec.num_validation} validation example, too few to fit membership models",
            f"give at least {2 * MIN_VALIDATION} held-out examples, or another `method`",
        )
    if size < min(USUAL_QUERY_SIZE, config.query_size):
        warn(f"the accessible retain set is small: a query set has {size} examples")
    if spec.num_validation < USUAL_VALIDATION:
        warn(f"membership models are fitted on only {spec.num_validation} validation examples")
    return size


def make_tasks(
    model: Model,
    spec: DataSpec,
    config: MatchingConfig,
    forgetting: Forgetting,
    query_sampling: tuple[QuerySampling, ...] = ("uniform",),
    support_size: int = 1,
) -> Tasks:
    """Return the tasks of LTU or of its control.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: the shared options.
      forgetting: the objective of the forgetting branch.
      query_sampling: sampling strategy of each query set.
      support_size: forget examples under random labels.

    Raises:
      InputError: the accessible retain set or the validation set is too small.
    """
    num_queried = query_size(spec, config, len(query_sampling))
    tx, num_classes = config.optimizer(), spec.num_classes

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> LTUState:
        kept = jnp.isin(jnp.arange(num_classes), data.retain.labels)
        source, reference_key = config.objective.target_source, jax.random.fold_in(key, 3)
        context = make_context(reference_key, model, variables, data, source, kept)
        teacher, labels = jnp.asarray(context.retain.inputs), context.retain.labels
        clusters = None
        if "cluster" in query_sampling:
            clusters = jnp.asarray(cluster_outputs(teacher, num_classes, seed=0))
        return LTUState(
            variables=variables,
            opt_state=tx.init(ravel_pytree(variables.params)[0]),
            forgetting=forgetting.init(key, context, config.audit_size),
            source=QuerySource(labels, cross_entropy(teacher, labels), clusters),
            teacher=teacher,
            allowed=kept,
            heldout=heldout_teacher(context) if config.heldout_distillation.weight else None,
        )

    def sample(key: Key, t: jax.Array, state: LTUState, data: UnlearnData) -> LTUBatch:
        del t
        support_key, label_key, audit_key, query_key = jax.random.split(key, 4)
        # A small forget set fills its batches too: their size, and so the program, is the same.
        support_rows, audit_rows = (
            balanced_rows(own_key, size, len(data.forget.labels))
            for own_key, size in ((support_key, support_size), (audit_key, config.audit_size))
        )
        support = _take(data.forget, support_rows)
        rows = draw_queries(query_key, query_sampling, state.source, num_classes, num_queried)
        heldout = None
        if state.heldout is not None:
            size, heldout_key = config.heldout_distillation.size, jax.random.fold_in(key, 5)
            heldout = draw_heldout(heldout_key, state.heldout, data, size)
        return LTUBatch(
            support._replace(labels=random_labels(label_key, support.labels, state.allowed)),
            _take(data.forget, audit_rows),
            _take(data.retain, rows.reshape(-1)),
            state.teacher[rows.reshape(-1)],
            forgetting.sample(jax.random.fold_in(key, 4), state.forgetting, audit_rows),
            heldout,
        )

    def losses(state: LTUState, batch: LTUBatch) -> Losses:
        def forward(params: PyTree, inputs) -> jax.Array:
            return model.apply(Variables(params, state.variables.state), inputs)[0]

        logits_of = rematerialized(forward, config.memory)

        def random_label_loss(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.support.inputs)
            return cross_entropy(logits, batch.support.labels).mean()

        def query_losses(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.queries.inputs)
            losses = distilled_cross_entropy(
                logits, batch.queries.labels, batch.teacher, config.distill, config.temperature
            )
            losses = losses.reshape(len(query_sampling), -1).mean(-1)
            if batch.heldout is None:
                return losses
            inputs, teacher = batch.heldout
            kl = distillation(logits_of(params, inputs), teacher, config.temperature).mean()
            return losses + config.heldout_distillation.weight * kl

        def membership_losses(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.audit.inputs)
            return forgetting.losses(state.forgetting, batch.draw, logits, batch.audit.labels)

        return Losses(random_label_loss, query_losses, membership_losses)

    def descend(key: Key, state: LTUState, batch: LTUBatch, direction: PyTree) -> LTUState:
        params, unravel = ravel_pytree(state.variables.params)
        updates, opt_state = tx.update(ravel_pytree(direction)[0], state.opt_state, params)
        new = jnp.asarray(optax.apply_updates(params, updates))
        variables = Variables(unravel(new), state.variables.state)
        variables = refresh_statistics(model, key, variables, batch.queries.inputs)
        return state._replace(variables=variables, opt_state=opt_state)

    return Tasks(prepare, sample, losses, descend)


def refresh_statistics(model: Model, key: Key, variables: Variables, inputs) -> Variables:
    """Return `variables` with BatchNorm statistics updated by one training pass over `inputs`."""
    if not jax.tree.leaves(variables.state):
        return variables
    _, state = model.apply(variables, inputs, train=True, key=key)
    return variables._replace(state=state)


def _take(examples: Examples, rows: jax.Array) -> Examples:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), examples)
