"""NegMerge: learn the forget set even better, several times over, and walk the other way.

What the fine-tuned candidates have learnt in common, weights that all moved in one direction, is
subtracted from the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
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
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import torch_sgd
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take

Aggregate = Literal["mean", "sum", "median"]
Pool = Literal["all", "rate"]


@dataclass(frozen=True)
class NegMergeConfig:
    """Options of NegMerge.

    The mean over all candidates where all agree is the authors' rule (Kim et al. 2024). Momentum,
    no weight decay and three candidates per learning rate are torchunlearn's; batch size, epochs
    and learning rates, which have to move an original that fits the forget set already, are ours.
    The authors choose the scale on validation data; 5 is ours, the middle of the range to search.

    Attributes:
      learning_rates: of the candidates.
      repeats: candidates per learning rate; they differ in the order of the examples.
      epochs: passes over the forget set per candidate.
      batch_size: examples per step; cut down to what there is.
      momentum: of SGD.
      weight_decay: added to the gradient before momentum, as torch's SGD does.
      scale: how far to go against the merged task vector.
      consensus: share of the candidates that have to agree on the direction of a weight.
      aggregate: of the candidates' task vectors; of an even number the median is the lower middle.
      pool: `"all"` merges candidates of all learning rates, as the authors do. `"rate"` merges per
        learning rate and takes the rate of the largest accuracy on the retain less that on the
        forget set, as torchunlearn does: this favours low forget accuracy without limit.

    Raises:
      InputError: a value is out of its range.
    """

    learning_rates: tuple[float, ...] = (0.01, 0.02, 0.05)
    repeats: int = 3
    epochs: int = 5
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0
    scale: float = 5.0
    consensus: float = 1.0
    aggregate: Aggregate = "mean"
    pool: Pool = "all"

    def __post_init__(self):
        check_range(
            self,
            ("learning_rates",),
            lambda rates: len(rates) > 0 and all(rate > 0 for rate in rates),
            "one or more numbers above 0",
        )
        check_range(
            self,
            ("repeats", "epochs", "batch_size", "scale"),
            lambda x: x > 0,
            "a number above 0",
        )
        check_range(self, ("momentum",), lambda x: 0 <= x < 1, "0 or more and below 1")
        check_range(self, ("weight_decay",), lambda x: x >= 0, "a number of at least 0")
        check_range(self, ("consensus",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")
        check_range(
            self,
            ("aggregate",),
            lambda x: x in get_args(Aggregate),
            ", ".join(get_args(Aggregate)),
        )
        check_range(self, ("pool",), lambda x: x in get_args(Pool), " or ".join(get_args(Pool)))


class NegMergeState(NamedTuple):
    """What NegMerge carries.

    Attributes:
      original: the network to unlearn from.
      variables: the candidate in training.
      opt_state: of its optimizer.
      candidates: like the parameters, `[K, ...]` for K candidates; zeros before their turn.
      order_key: of the order in which examples come.
      scored: forget and retain set, where learning rates are chosen by them; else None.
    """

    original: Variables
    variables: Variables
    opt_state: optax.OptState
    candidates: PyTree
    order_key: Key
    scored: tuple[Examples, Examples] | None


class NegMergeBatch(NamedTuple):
    """Examples `[B]` of the forget set.

    Attributes:
      examples: the examples.
      t: the step, from which candidate and learning rate follow.
    """

    examples: Examples
    t: jax.Array


def negmerge(
    model: Model,
    spec: DataSpec,
    config: NegMergeConfig = NegMergeConfig(),
) -> Unlearner:
    """Build NegMerge (Kim et al. 2024, arXiv 2410.05583).

    Candidates normalise with the batch where there is BatchNorm; the result has the original's
    statistics. The retain set is looked at only where learning rates are chosen.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `NegMergeConfig`.

    Returns:
      The unlearner; its steps train one candidate after the other.
    """
    num_forget = spec.num_forget
    batch_size = min(config.batch_size, num_forget)
    candidate_steps = config.epochs * batches_per_pass(num_forget, batch_size)
    num_candidates = len(config.learning_rates) * config.repeats
    # The learning rate changes with the candidate, so it is multiplied in by the step.
    tx = torch_sgd(1.0, config.momentum, config.weight_decay)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> NegMergeState:
        candidates = jax.tree.map(
            lambda x: jnp.zeros((num_candidates, *x.shape), x.dtype), variables.params
        )
        scored = (data.forget, data.retain) if config.pool == "rate" else None
        opt_state = tx.init(variables.params)
        return NegMergeState(variables, variables, opt_state, candidates, key, scored)

    def sample(key: Key, t: jax.Array, state: NegMergeState, data: UnlearnData) -> NegMergeBatch:
        del key
        order_key = jax.random.fold_in(state.order_key, t // candidate_steps)
        rows = shuffled_rows(order_key, t % candidate_steps, num_forget, batch_size)
        return NegMergeBatch(take(data.forget, rows), t)

    def step(key: Key, state: NegMergeState, batch: NegMergeBatch) -> tuple[NegMergeState, Info]:
        index, is_first = batch.t // candidate_steps, batch.t % candidate_steps == 0
        rate = jnp.asarray(config.learning_rates)[index // config.repeats]
        variables, opt_state = jax.tree.map(
            lambda fresh, x: jnp.where(is_first, fresh, x),
            (state.original, tx.init(state.original.params)),
            (state.variables, state.opt_state),
        )
        loss_fn = mean_loss(
            model,
            variables.state,
            batch.examples.inputs,
            lambda logits: cross_entropy(logits, batch.examples.labels),
            train=True,
            key=key,
        )
        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
        updates, opt_state = tx.update(grads, opt_state, variables.params)
        params = optax.apply_updates(
            variables.params, jax.tree.map(lambda u: (rate * u).astype(u.dtype), updates)
        )
        candidates = jax.tree.map(lambda all_, x: all_.at[index].set(x), state.candidates, params)
        state = state._replace(
            variables=Variables(params, model_state), opt_state=opt_state, candidates=candidates
        )
        return state, {"loss": loss}

    def finish(state: NegMergeState) -> Variables:
        subtract = jit(lambda params, group: negate(config, params, group))
        size = num_candidates if config.pool == "all" else config.repeats
        results = [
            state.original._replace(params=subtract(state.original.params, group))
            for group in groups(state.candidates, size)
        ]
        if config.pool == "all":
            return results[0]
        return max(results, key=lambda result: preference(model, result, *state.scored))

    invariants = Invariants(preserves_model_state=True)
    return Unlearner(prepare, sample, step, finish, num_candidates * candidate_steps, invariants)


def groups(candidates: PyTree, size: int) -> list[PyTree]:
    """Return `candidates` `[K, ...]` as K / `size` trees of `[size, ...]`."""
    leaves, structure = jax.tree.flatten(candidates)
    parts = zip(*(leaf.reshape(-1, size, *leaf.shape[1:]) for leaf in leaves), strict=True)
    return [structure.unflatten(part) for part in parts]


def negate(config: NegMergeConfig, original: PyTree, candidates: PyTree) -> PyTree:
    """Return `original` less `scale` times the task vectors' merger.

    Args:
      config: see `NegMergeConfig`; read are scale, consensus and aggregate.
      original: parameters.
      candidates: like them, `[K, ...]`.
    """
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
    # Less a hair, as 10 * 0.7 is more than 7 in floating point.
    enough = max(math.ceil(len(vectors) * consensus - 1e-6), 1)
    middle = {
        "mean": lambda: vectors.mean(0),
        "sum": lambda: vectors.sum(0),
        "median": lambda: jnp.sort(vectors, axis=0)[(len(vectors) - 1) // 2],
    }[aggregate]()
    agreeing = jnp.sum(jnp.sign(vectors) == jnp.sign(middle), axis=0)
    return jnp.where(agreeing >= enough, middle, 0)


def preference(model: Model, variables: Variables, forget: Examples, retain: Examples) -> float:
    """Return the accuracy on the retain set less that on the forget set, in evaluation mode."""
    of_forget, of_retain = (
        np.mean(predict(model, variables, one.inputs).argmax(-1) == one.labels)
        for one in (forget, retain)
    )
    return float(of_retain - of_forget)


METHOD = Method(
    name="negmerge",
    summary="fine-tune on the forget set several times, subtract what all of them learnt",
    reference="Kim et al. 2024, arXiv 2410.05583",
    build=negmerge,
    config=NegMergeConfig(),
    space={
        "scale": LogUniform(1.0, 30.0),
        "epochs": Choice((2, 5, 10)),
    },
)
