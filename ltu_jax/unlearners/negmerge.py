"""NegMerge: fine-tune on the forget set several times, subtract what all candidates learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Array,
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import (
    Choice,
    Config,
    Constraint,
    LogUniform,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    ShareBelowOne,
)
from ltu_jax.unlearners.gradient_method import State, descend, mean_loss
from ltu_jax.unlearners.sampling import Epochs, take

LearningRates = Annotated[
    tuple[float, ...],
    Constraint(lambda x: len(x) > 0 and min(x) > 0, "one or more numbers above 0"),
]
Aggregate = Literal["mean", "sum", "median"]


@dataclass(frozen=True)
class NegMergeConfig(Config):
    """Options of NegMerge.

    Mean and full consensus over all candidates are the authors' rule. Momentum, weight decay and
    repeats are torchunlearn's. Batch size, epochs and learning rates are ours; they have to move an
    original that already fits the forget set. The authors choose the scale on validation data; 5 is
    ours, the middle of the range to search.

    Attributes:
      learning_rates: learning rates of the candidates.
      repeats: candidates per learning rate; they differ in the order of the examples.
      epochs: passes over the forget set per candidate.
      batch_size: examples per step; at most the forget set.
      momentum: SGD momentum.
      weight_decay: L2 coefficient, added to the gradient before momentum.
      scale: factor on the merged task vector that is subtracted.
      consensus: share of the candidates that have to agree on the sign of a weight's change.
      aggregate: how task vectors are combined; the median of an even number is the lower middle.
      grouping: `"all"` merges all candidates, as the authors do. `"learning_rate"` merges per
        learning rate and returns the result with the largest retain minus forget accuracy, as
        torchunlearn does; this rewards low forget accuracy without limit.
    """

    learning_rates: LearningRates = (0.01, 0.02, 0.05)
    repeats: PositiveInt = 3
    epochs: PositiveInt = 5
    batch_size: PositiveInt = 128
    momentum: ShareBelowOne = 0.9
    weight_decay: NonNegativeFloat = 0.0
    scale: PositiveFloat = 5.0
    consensus: PositiveShare = 1.0
    aggregate: Aggregate = "mean"
    grouping: Literal["all", "learning_rate"] = "all"


class NegMergeState(NamedTuple):
    """State of NegMerge.

    Attributes:
      original: the model to unlearn from.
      variables: the candidate in training.
      opt_state: its optimizer state.
      candidates: like the parameters, `[K, ...]` for K candidates; zeros before their turn.
      order_key: key of the order of the examples.
      scored: forget and retain set if results are compared by accuracy; else None.
    """

    original: Variables
    variables: Variables
    opt_state: optax.OptState
    candidates: PyTree
    order_key: Key
    scored: tuple[Examples, Examples] | None


class NegMergeBatch(NamedTuple):
    """Forget examples `[B]`, and the step; candidate and learning rate follow from it."""

    inputs: Array
    labels: Array
    t: jax.Array


def negmerge(model: Model, spec: DataSpec, config: NegMergeConfig = NegMergeConfig()) -> Unlearner:
    r"""Build NegMerge, which trains one candidate after the other and merges them at the end.

    With task vectors :math:`\tau_k = \theta_k - \theta` of K candidates, per weight

    .. math::
        \theta \leftarrow \theta - s\, \bar\tau\, [\#\{k: sign\, \tau_k = sign\, \bar\tau\} \ge cK]

    for scale s, consensus c and the aggregate :math:`\bar\tau`. BatchNorm is in training mode; the
    result keeps the original's statistics.

    Returns:
      The unlearner; it keeps the model state. `info` holds the `loss` of the candidate.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> unlearner, key = negmerge(model, spec), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> history["loss"].shape
      (45,)

    References:
      Kim et al., "NegMerge: Consensual Weight Negation for Strong Machine Unlearning", 2024,
      https://arxiv.org/abs/2410.05583
    """
    epochs = Epochs(spec.num_forget, config.batch_size, config.epochs)  # of one candidate
    num_candidates = len(config.learning_rates) * config.repeats

    def optimizer(rate: float | jax.Array) -> optax.GradientTransformation:
        return torch_sgd(rate, config.momentum, config.weight_decay)

    init = optimizer(0.0).init  # the same for every rate
    loss = mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels))

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> NegMergeState:
        candidates = jax.tree.map(
            lambda x: jnp.zeros((num_candidates, *x.shape), x.dtype), variables.params
        )
        scored = (data.forget, data.retain) if config.grouping == "learning_rate" else None
        opt_state = init(variables.params)
        return NegMergeState(variables, variables, opt_state, candidates, key, scored)

    def sample(key: Key, t: jax.Array, state: NegMergeState, data: UnlearnData) -> NegMergeBatch:
        del key
        order_key = jax.random.fold_in(state.order_key, t // epochs.num_steps)
        rows = epochs.rows(order_key, t % epochs.num_steps)
        examples = take(data.forget, rows)
        return NegMergeBatch(examples.inputs, examples.labels, t)

    def step(key: Key, state: NegMergeState, batch: NegMergeBatch) -> tuple[NegMergeState, Info]:
        index, is_first = batch.t // epochs.num_steps, batch.t % epochs.num_steps == 0
        rate = jnp.asarray(config.learning_rates)[index // config.repeats]
        variables, opt_state = jax.tree.map(
            lambda fresh, x: jnp.where(is_first, fresh, x),
            (state.original, init(state.original.params)),
            (state.variables, state.opt_state),
        )
        current = State(variables, state.order_key)
        variables, opt_state, value = descend(
            optimizer(rate), lambda p: loss(key, p, current, batch), variables, opt_state
        )
        candidates = jax.tree.map(
            lambda all_, x: all_.at[index].set(x), state.candidates, variables.params
        )
        state = state._replace(variables=variables, opt_state=opt_state, candidates=candidates)
        return state, {"loss": value}

    def finish(state: NegMergeState) -> Variables:
        subtract = jit(lambda params, group: negate(config, params, group))
        size = num_candidates if config.grouping == "all" else config.repeats
        results = [
            state.original._replace(params=subtract(state.original.params, group))
            for group in groups(state.candidates, size)
        ]
        if state.scored is None:
            return results[0]
        forget, retain = state.scored
        return max(results, key=lambda result: preference(model, result, forget, retain))

    num_steps = num_candidates * epochs.num_steps
    return Unlearner(
        prepare, sample, step, finish, num_steps, Invariants(preserves_model_state=True)
    )


def groups(candidates: PyTree, size: int) -> list[PyTree]:
    """Return `candidates` `[K, ...]` as K / `size` trees of `[size, ...]`."""
    leaves, structure = jax.tree.flatten(candidates)
    parts = zip(*(leaf.reshape(-1, size, *leaf.shape[1:]) for leaf in leaves), strict=True)
    return [structure.unflatten(part) for part in parts]


def negate(config: NegMergeConfig, original: PyTree, candidates: PyTree) -> PyTree:
    """Return the parameters `original` minus the scaled merger of `candidates` `[K, ...]`."""
    return jax.tree.map(
        lambda x, all_: x - config.scale * merge(all_ - x, config.consensus, config.aggregate),
        original,
        candidates,
    )


def merge(vectors: jax.Array, consensus: float, aggregate: Aggregate) -> jax.Array:
    """Return the aggregate of `vectors` `[K, ...]` where enough of them have its sign, else 0.

    Enough are `consensus` times K, rounded up.

    >>> merge(jnp.array([[1.0, 2.0, -1.0], [3.0, -1.0, -3.0]]), 1.0, "mean").tolist()
    [2.0, 0.0, -2.0]
    """
    # The small number absorbs rounding: 10 * 0.7 is more than 7 in floating point.
    enough = max(math.ceil(len(vectors) * consensus - 1e-6), 1)
    middle = {
        "mean": lambda: vectors.mean(0),
        "sum": lambda: vectors.sum(0),
        "median": lambda: jnp.sort(vectors, axis=0)[(len(vectors) - 1) // 2],
    }[aggregate]()
    agreeing = jnp.sum(jnp.sign(vectors) == jnp.sign(middle), axis=0)
    return jnp.where(agreeing >= enough, middle, 0)


def preference(model: Model, variables: Variables, forget: Examples, retain: Examples) -> float:
    """Return the retain accuracy minus the forget accuracy, in evaluation mode."""
    of_forget, of_retain = (
        np.mean(predict(model, variables, one.inputs).argmax(-1) == one.labels)
        for one in (forget, retain)
    )
    return float(of_retain - of_forget)


METHOD = Method(
    name="negmerge",
    summary="fine-tune on the forget set several times, subtract what all candidates learnt",
    reference="Kim et al. 2024, arXiv 2410.05583",
    build=negmerge,
    config=NegMergeConfig(),
    space={"scale": LogUniform(1.0, 30.0), "epochs": Choice((2, 5, 10))},
)
