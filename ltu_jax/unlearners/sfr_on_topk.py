"""SFR-on as torchunlearn has it: descent of retain minus forget loss along its largest gradients.

Another algorithm than the authors' `sfr_on`: the mask is of the joint gradient, drawn anew in each
step, and the slow weights follow every few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import LossFn, SGDConfig
from ltu_jax.unlearners.sampling import batches_per_pass, shuffled_rows, take


@dataclass(frozen=True)
class SFROnTopKConfig(SGDConfig):
    """Options of torchunlearn's SFR-on.

    `saliency`, `slow_rate` and `slow_every` are torchunlearn's defaults. Its `forget_weight` is 1,
    at which the forget loss, having no upper bound, soon outgrows the retain loss: ours is 0.1.
    Epochs and learning rate are ours too, those of `sfr_on`.

    Attributes:
      retain_weight: of the retain set's loss.
      forget_weight: of the forget set's loss, which is ascended.
      saliency: share of the weights, those of largest gradient, that take part in a step; momentum
        and weight decay move the others too.
      slow_rate: how far the slow weights go towards the fast ones, which then restart from there.
      slow_every: steps from one such move to the next.
    """

    epochs: int = 5
    learning_rate: float = 0.01
    retain_weight: float = 1.0
    forget_weight: float = 0.1
    saliency: float = 0.5
    slow_rate: float = 0.5
    slow_every: int = 5

    def __post_init__(self):
        super().__post_init__()
        check_range(
            self, ("retain_weight", "forget_weight"), lambda x: x >= 0, "a number of at least 0"
        )
        check_range(
            self, ("saliency", "slow_rate"), lambda x: 0 < x <= 1, "a share above 0 and up to 1"
        )
        check_range(self, ("slow_every",), lambda x: x >= 1, "a number of steps of at least 1")


class SFROnTopKState(NamedTuple):
    """What the method carries.

    Attributes:
      variables: the network, with the fast weights.
      slow: the slow weights.
      opt_state: of the optimizer; no move of the slow weights resets it.
      num_done: steps taken.
      order_key: of the order in which examples come.
    """

    variables: Variables
    slow: PyTree
    opt_state: optax.OptState
    num_done: jax.Array
    order_key: Key


class SFROnTopKBatch(NamedTuple):
    """As many examples `[B]` of either set."""

    retain: Examples
    forget: Examples


def sfr_on_topk(
    model: Model,
    spec: DataSpec,
    config: SFROnTopKConfig = SFROnTopKConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build torchunlearn's variant of SFR-on (after Huang et al. 2024, arXiv 2409.19732).

    BatchNorm normalises with the batch of one set; its statistics follow the retain, then the
    forget batch.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `SFROnTopKConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    num_steps = config.epochs * batches_per_pass(num_retain, batch_size)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> SFROnTopKState:
        opt_state = tx.init(variables.params)
        return SFROnTopKState(variables, variables.params, opt_state, jnp.asarray(0), key)

    def sample(key: Key, t: jax.Array, state: SFROnTopKState, data: UnlearnData) -> SFROnTopKBatch:
        del key
        retain_key, forget_key = jax.random.split(state.order_key)
        return SFROnTopKBatch(
            take(data.retain, shuffled_rows(retain_key, t, num_retain, batch_size)),
            take(data.forget, shuffled_rows(forget_key, t, num_forget, batch_size)),
        )

    def step(key: Key, state: SFROnTopKState, batch: SFROnTopKBatch) -> tuple[SFROnTopKState, Info]:
        variables = state.variables
        loss_fn = _loss_fn(model, config, variables.state, batch, key)
        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
        updates, opt_state = tx.update(
            keep_largest(grads, config.saliency), state.opt_state, variables.params
        )
        fast = optax.apply_updates(variables.params, updates)
        num_done = state.num_done + 1
        moves = num_done % config.slow_every == 0
        slow = jax.tree.map(
            lambda s, f: jnp.where(moves, s + config.slow_rate * (f - s), s), state.slow, fast
        )
        params = jax.tree.map(lambda s, f: jnp.where(moves, s, f), slow, fast)
        state = SFROnTopKState(
            Variables(params, model_state), slow, opt_state, num_done, state.order_key
        )
        return state, {"loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


def keep_largest(grads: PyTree, share: float) -> PyTree:
    """Return `grads` with zeros in all but the `share` of largest absolute value, of all together.

    Of P values `int(P * share)` are kept, at least one; values that tie with the least are too.
    """
    sizes = jnp.sort(jnp.concatenate([jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(grads)]))
    least = sizes[len(sizes) - max(int(share * len(sizes)), 1)]
    return jax.tree.map(lambda g: jnp.where(jnp.abs(g) >= least, g, 0), grads)


def _loss_fn(
    model: Model, config: SFROnTopKConfig, model_state: PyTree, batch: SFROnTopKBatch, key: Key
) -> LossFn:
    def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
        losses, new_state = [], model_state
        for examples, one_key in zip(batch, jax.random.split(key), strict=True):
            variables = Variables(params, new_state)
            logits, new_state = model.apply(variables, examples.inputs, train=True, key=one_key)
            losses.append(cross_entropy(logits, examples.labels).mean())
        retain, forget = losses
        return config.retain_weight * retain - config.forget_weight * forget, new_state

    return loss_fn


METHOD = Method(
    name="sfr_on_topk",
    summary="retain minus forget loss along its largest gradients, with slow weights",
    reference="torchunlearn, after Huang et al. 2024, arXiv 2409.19732",
    build=sfr_on_topk,
    config=SFROnTopKConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "forget_weight": LogUniform(3e-2, 1.0),
        "epochs": Choice((5, 10)),
    },
)
