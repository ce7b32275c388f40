r"""LTU, the unlearner: two meta-gradients and a harmonizer (arXiv 2407.10494).

The method is three lines, found again in `ltu.<locals>.step`::

    remember = meta_gradient(random-label loss on D_f, losses on N query sets of D_r)
    forget   = meta_gradient(losses of some MI models on D_f, losses of the other MI models on D_f)
    theta   <- optimizer(theta, harmonize(remember, forget))

The paper leaves much open; what is chosen here follows experiments and is stated at each knob.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import InputError
from ltu_jax.ltu import membership as mi
from ltu_jax.ltu.harmonize import Harmony, check_harmony, harmonize
from ltu_jax.ltu.meta import InnerStep, meta_gradient
from ltu_jax.ltu.sampling import (
    QueryKind,
    QueryPool,
    check_query_sampling,
    cluster_outputs,
    draw_queries,
    random_labels,
)
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Examples,
    Info,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)


@dataclass(frozen=True)
class LTUConfig:
    """The knobs of LTU.

    The defaults come from a search of ours on splits and seeds that no reported table uses
    (CIFAR-10, 10,000 training images, `cnn`, random 10 %; digits, random 10 % and one class).

    Attributes:
      steps: outer steps; the cost of a deletion does not depend on the size of any data set.
      learning_rate: peak of a cosine schedule for SGD with momentum.
      momentum: of SGD.
      max_update_norm: the direction is scaled down to this norm before the optimizer.
      support_size: forget examples under random labels; they only shape the temporary step.
      audit_size: forget examples that the MI models look at.
      query_sampling: how each of the N query sets is drawn; its length is N.
      query_size: examples in each query set.
      random_label_inner: inner step of the remembering branch. Its norm is clipped because the
        random-label gradient of a memorised model is large.
      membership_inner: inner step of the forgetting branch.
      tune_weight: weight of the random-label loss itself in the remembering gradient. At 0 random
        labels only shape the temporary step: they are a perturbation that queries must survive,
        not a target.
      membership_tune_weight: weight of the support MI models' loss in the forgetting gradient.
      membership: the K kinds of MI model.
      membership_support: how many of the K are the support of a step; drawn anew every step.
      membership_target: `"match"` the scores of held-out stand-ins or `"push"` to non-member.
      forget_weight: factor on the forgetting gradient.
      distill: share of the query loss that is KL to the original model's outputs.
      temperature: of that KL.
      harmonize: see `ltu_jax.ltu.harmonize.harmonize`.
    """

    steps: int = 300
    learning_rate: float = 0.02
    momentum: float = 0.9
    max_update_norm: float = 3.0
    support_size: int = 32
    audit_size: int = 128
    query_sampling: tuple[QueryKind, ...] = ("uniform", "class", "hard")
    query_size: int = 64
    random_label_inner: InnerStep = InnerStep(lr=0.03, max_norm=1.0)
    membership_inner: InnerStep = InnerStep(lr=0.003, max_norm=1.0)
    tune_weight: float = 0.0
    membership_tune_weight: float = 1.0
    membership: tuple[mi.MembershipSpec, ...] = field(default=mi.DIVERSE)
    membership_support: int = 3
    membership_target: mi.Target = "match"
    forget_weight: float = 0.4
    distill: float = 0.9
    temperature: float = 2.0
    harmonize: Harmony = "two-way"


class LTUState(NamedTuple):
    """What LTU carries from step to step.

    Attributes:
      variables: the network being unlearned.
      opt_state: of the outer optimizer.
      ensemble: the MI models, frozen.
      pool: what query sampling needs.
      teacher: `[n, C]` logits of the original model on the accessible retain set.
      allowed: `[C]` classes that random labels are drawn from.
    """

    variables: Variables
    opt_state: optax.OptState
    ensemble: mi.Ensemble
    pool: QueryPool
    teacher: jax.Array
    allowed: jax.Array


class LTUBatch(NamedTuple):
    """One step's worth of data.

    Attributes:
      support: `[B]` forget examples, under random labels.
      audit: `[B]` forget examples, under their true labels, for the MI models.
      queries: `[N * Q]` accessible retain examples: N disjoint query sets, one after another.
      teacher: `[N * Q, C]` the original model's logits for `queries`.
    """

    support: Examples
    audit: Examples
    queries: Examples
    teacher: jax.Array


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
      InputError: a knob is out of range or the accessible retain set is too small.
    """
    num_queries = len(config.query_sampling)
    support_size = min(config.support_size, len(data.forget.labels))
    audit_size = min(config.audit_size, len(data.forget.labels))
    query_size = min(config.query_size, len(data.retain.labels) // max(num_queries, 1))
    _check(config, query_size, len(data.retain.labels))
    tx = optax.chain(
        optax.clip_by_global_norm(config.max_update_norm),
        optax.sgd(
            optax.cosine_decay_schedule(config.learning_rate, config.steps),
            momentum=config.momentum,
        ),
    )

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> LTUState:
        teacher = predict(model, variables, data.retain.inputs)
        heldout = predict(model, variables, data.validation.inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(teacher, data.retain.labels)
        kept = jnp.isin(jnp.arange(num_classes), data.retain.labels)
        nonmembers = (heldout, data.validation.labels)
        ensemble = mi.fit_ensemble(
            key,
            config.membership,
            (teacher, data.retain.labels),
            nonmembers,
            mi.stand_ins(data.forget.labels, nonmembers, ~kept),
            quantiles=audit_size,
        )
        clusters = jnp.asarray(cluster_outputs(teacher, num_classes, seed=0))
        return LTUState(
            variables=variables,
            opt_state=tx.init(variables.params),
            ensemble=ensemble,
            pool=QueryPool(data.retain.labels, losses, clusters),
            teacher=teacher,
            allowed=kept,
        )

    def sample(key: Key, t: jax.Array, state: LTUState, data: UnlearnData) -> LTUBatch:
        del t
        support_key, label_key, audit_key, query_key = jax.random.split(key, 4)
        support = _draw(support_key, data.forget, support_size)
        labels = random_labels(label_key, support.labels, state.allowed)
        rows = draw_queries(
            query_key, config.query_sampling, state.pool, num_classes, query_size
        ).reshape(-1)
        return LTUBatch(
            support=support._replace(labels=labels),
            audit=_draw(audit_key, data.forget, audit_size),
            queries=_take(data.retain, rows),
            teacher=state.teacher[rows],
        )

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        def logits_of(params: PyTree, inputs) -> jax.Array:
            return model.apply(Variables(params, state.variables.state), inputs)[0]

        def random_label_loss(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.support.inputs)
            return _cross_entropy(logits, batch.support.labels).mean()

        def query_losses(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.queries.inputs)
            losses = _query_loss(logits, batch.queries.labels, batch.teacher, config)
            return losses.reshape(num_queries, -1).mean(-1)

        def membership_losses(params: PyTree) -> jax.Array:
            logits = logits_of(params, batch.audit.inputs)
            return mi.membership_losses(
                config.membership,
                state.ensemble,
                logits,
                batch.audit.labels,
                config.membership_target,
            )

        support, query = _split_tasks(key, len(config.membership), config.membership_support)
        params = state.variables.params
        remember, remembered = meta_gradient(
            random_label_loss, query_losses, params, config.random_label_inner, config.tune_weight
        )
        forget, forgot = meta_gradient(
            lambda p: membership_losses(p)[support].mean(),
            lambda p: membership_losses(p)[query],
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
            "norm_remember": optax.tree.norm(remember),
            "norm_forget": optax.tree.norm(forget),
            "cosine": conflict.cosine,
            "conflict": conflict.conflict,
        }
        return state._replace(variables=variables, opt_state=opt_state), info

    return Unlearner(prepare, sample, step, lambda state: state.variables, config.steps)


def refresh_statistics(model: Model, key: Key, variables: Variables, inputs) -> Variables:
    """Return `variables` with BatchNorm statistics updated by one training pass over `inputs`."""
    if not jax.tree.leaves(variables.state):
        return variables
    _, state = model.apply(variables, inputs, train=True, key=key)
    return variables._replace(state=state)


def _query_loss(logits, labels, teacher, config: LTUConfig) -> jax.Array:
    loss = _cross_entropy(logits, labels)
    if not config.distill:
        return loss
    t = config.temperature
    kl = optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(logits / t), jax.nn.log_softmax(teacher / t)
    )
    return (1 - config.distill) * loss + config.distill * t**2 * kl


def _split_tasks(key: Key, count: int, support: int) -> tuple[jax.Array, jax.Array]:
    """Return which of K tasks are the support and which the queries of this step."""
    order = jax.random.permutation(key, count)
    return (order, order) if count == 1 else (order[:support], order[support:])


def _draw(key: Key, examples: Examples, size: int) -> Examples:
    return _take(examples, jax.random.permutation(key, len(examples.labels))[:size])


def _take(examples: Examples, rows: jax.Array) -> Examples:
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), examples)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _check(config: LTUConfig, query_size: int, num_retain: int) -> None:
    for name in ("steps", "learning_rate", "support_size", "audit_size", "query_size"):
        if getattr(config, name) <= 0:
            raise InputError(f"{name} is {getattr(config, name)}; give a number above 0")
    check_harmony(config.harmonize)
    check_query_sampling(config.query_sampling)
    mi.check_membership(config.membership, config.membership_target)
    if query_size < 8:
        raise InputError(
            f"--retain-fraction leaves {num_retain} accessible retain examples, too few for "
            f"{len(config.query_sampling)} disjoint query sets of at least 8; raise it"
        )
    # A single MI model is support and query at once.
    most = max(len(config.membership) - 1, 1)
    if not 1 <= config.membership_support <= most:
        raise InputError(
            f"membership_support is {config.membership_support}; give 1 to {most}, "
            "so that MI models are left for the queries"
        )
