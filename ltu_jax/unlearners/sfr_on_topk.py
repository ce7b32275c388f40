"""SFR-on as torchunlearn implements it: steps along the largest gradients, with slow weights.

It differs from the authors' `sfr_on`: the mask is that of the joint gradient, computed in each
step, and the slow weights move every few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import DataSpec, Key, Model, PyTree, UnlearnData, Unlearner
from ltu_jax.unlearners.base import (
    Choice,
    LogUniform,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from ltu_jax.unlearners.gradient_method import SGD_NUMBERS, SGDConfig, State, gradient_method
from ltu_jax.unlearners.neggrad_plus import RetainForget, both_losses, sample_both
from ltu_jax.unlearners.sampling import Epochs
from ltu_jax.unlearners.slow_weights import with_slow_weights


@dataclass(frozen=True)
class SFROnTopKConfig(SGDConfig):
    """Options of torchunlearn's SFR-on.

    `saliency`, `slow_rate` and `slow_every` are torchunlearn's defaults. Its `forget_weight` is 1,
    at which the forget loss, which has no upper bound, soon exceeds the retain loss: ours is 0.1.
    Epochs and learning rate are ours too, those of `sfr_on`.

    Attributes:
      retain_weight: weight of the retain loss.
      forget_weight: weight of the forget loss, which is ascended.
      saliency: share of the weights, those of largest gradient, that get a gradient in a step;
        momentum and weight decay move the others too.
      slow_rate: share of the way that the slow weights move towards the fast ones, which then
        restart from there.
      slow_every: steps from one such move to the next.
    """

    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 0.01
    retain_weight: NonNegativeFloat = 1.0
    forget_weight: NonNegativeFloat = 0.1
    saliency: PositiveShare = 0.5
    slow_rate: PositiveShare = 0.5
    slow_every: PositiveInt = 5


def sfr_on_topk(
    model: Model,
    spec: DataSpec,
    config: SFROnTopKConfig = SFROnTopKConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build torchunlearn's variant of SFR-on.

    .. math:: \theta \leftarrow \theta - \eta\, \mathrm{top}_s\big(
        \nabla (w_r CE_{retain} - w_f CE_{forget})\big)

    and `with_slow_weights` after every `slow_every` steps. BatchNorm normalises the two
    batches separately; the retain batch updates the statistics first.

    Returns:
      The unlearner. Info: `loss`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = sfr_on_topk(model, spec, SFROnTopKConfig(epochs=10))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True

    References:
      Huang, Tian, Wei et al., "Unified Gradient-Based Machine Unlearning with Remain Geometry
      Enhancement", 2024, https://arxiv.org/abs/2409.19732
    """
    retain = Epochs(spec.num_retain, config.batch_size, config.epochs)
    largest = optax.stateless(lambda grads, _: keep_largest(grads, config.saliency))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> RetainForget:
        forget = Epochs(spec.num_forget, retain.batch_size, config.epochs)
        return sample_both(t, state, data, retain, forget)

    def loss(
        key: Key, params: PyTree, state: State, batch: RetainForget
    ) -> tuple[jax.Array, PyTree]:
        (retain, forget), model_state = both_losses(model, key, params, state, batch)
        return config.retain_weight * retain - config.forget_weight * forget, model_state

    method = gradient_method(
        optax.chain(largest, tx or config.optimizer(retain.num_steps)),
        retain.num_steps,
        sample=sample,
        loss=loss,
    )
    return with_slow_weights(method, config.slow_rate, lambda t: (t + 1) % config.slow_every == 0)


def keep_largest(grads: PyTree, share: float) -> PyTree:
    """Return `grads` with zeros in all but the `share` of largest absolute value, over all leaves.

    Of P values `int(P * share)` are kept, at least one, and all that equal the smallest kept.

    Example:
      >>> keep_largest({"a": jnp.array([3.0, -1.0]), "b": jnp.array(-2.0)}, 0.7)["a"].tolist()
      [3.0, 0.0]
    """
    sizes = jnp.sort(jnp.concatenate([jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(grads)]))
    least = sizes[len(sizes) - max(int(share * len(sizes)), 1)]
    return jax.tree.map(lambda g: jnp.where(jnp.abs(g) >= least, g, 0), grads)


METHOD = Method(
    name="sfr_on_topk",
    summary="retain minus forget loss along its largest gradients, with slow weights",
    reference="torchunlearn, after Huang et al. 2024, arXiv 2409.19732",
    build=sfr_on_topk,
    traced=(*SGD_NUMBERS, "retain_weight", "forget_weight"),
    config=SFROnTopKConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "forget_weight": LogUniform(3e-2, 1.0),
        "epochs": Choice((5, 10)),
    },
)
