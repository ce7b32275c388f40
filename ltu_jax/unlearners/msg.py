"""Masked small gradients: redraw weights on which both sets agree, then train on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import DataSpec, Examples, Key, Model, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners import convolutions
from ltu_jax.unlearners.base import (
    Choice,
    LogUniform,
    Method,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Share,
    ShareBelowOne,
)
from ltu_jax.unlearners.fisher import sum_over_batches
from ltu_jax.unlearners.gradient_method import SGDConfig, State, gradient_method, mean_loss
from ltu_jax.unlearners.sampling import Epochs, take

GRADIENT_BATCH = 256  # limits memory only: the sum over batches is the same

# Normal with variance 2 / (H W out), "Kaiming fan-out", as the solution draws.
draw_kernel = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class MSGConfig(SGDConfig):
    """Options of masked small gradients.

    Defaults are the challenge solution's, from xcadet/deepunlearn; its learning rate moves by
    epochs and falls linearly. They suit the challenge's many retain images. Cadet et al. searched
    learning rates from 1e-5 to 0.1, reset shares from 0 to 1 and up to a fifth of the epochs of
    training.

    Attributes:
      reset: share of the weights of each convolution kernel that is redrawn.
      kept_gradient: factor on the gradient of the other convolution weights, not on their decay.
      warmup: share of the steps in which the learning rate rises to its peak, before `schedule`.
    """

    epochs: PositiveInt = 5
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    reset: PositiveShare = 0.3
    kept_gradient: Share = 0.1
    warmup: ShareBelowOne = 0.5

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`."""
        climb = int(self.warmup * num_steps)
        peak = self.learning_rate
        after = optax.constant_schedule(peak)
        if self.schedule == "cosine":
            after = optax.cosine_decay_schedule(peak, num_steps - climb)
        ramp = optax.linear_schedule(peak / (climb + 1), peak, max(climb, 1))
        rate = optax.join_schedules([ramp, after], [climb])
        return torch_sgd(rate, self.momentum, self.weight_decay)


def msg(
    model: Model,
    spec: DataSpec,
    config: MSGConfig = MSGConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build the reset of small-gradient convolution weights and training on the retain set.

    Let :math:`g = \nabla L_{retain} - \nabla L_{forget}` at the original, in evaluation mode. In
    each convolution kernel, the share `reset` of weights with the smallest :math:`|g|` is redrawn.
    Then

    .. math:: \theta \leftarrow \theta - \eta\, c \odot \nabla L_{retain}(\theta),

    where c is `kept_gradient` for the other convolution weights and 1 elsewhere. A solution of the
    NeurIPS 2023 challenge, `kgltop2` in Cadet et al. and with `ct` the strongest of 18 there.

    Returns:
      The unlearner, whose `State.extra` holds c; `info` holds the `loss`.

    Raises:
      InputError: the model has no convolution.

    Example:
      >>> from ltu_jax.models import build
      >>> spec = DataSpec(100, 1000, 100, 10, jax.ShapeDtypeStruct((1, 32, 32, 3), "uint8"))
      >>> msg(build("cnn", num_classes=10), spec).num_steps
      80

    References:
      Cadet et al., "Deep Unlearn: Benchmarking Machine Unlearning", 2024,
      https://arxiv.org/abs/2410.01276
    """
    convolutions.require(model, spec, METHOD.name)
    epochs = Epochs(spec.num_retain, config.batch_size, config.epochs)
    full_loss = mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels))

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        subset_key, draw_key, order_key = jax.random.split(key, 3)
        small = smallest(gradient_gap(subset_key, model, variables, data), config.reset)
        params = redraw(draw_key, variables.params, small)
        scale = gradient_scale(small, config.kept_gradient)
        return State(variables._replace(params=params), order_key, extra=scale)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        return take(data.retain, epochs.rows(state.order_key, t))

    def loss(key: Key, params: PyTree, state: State, batch: Examples) -> tuple[jax.Array, PyTree]:
        return full_loss(key, damp(params, state.extra), state, batch)

    tx = tx or config.optimizer(epochs.num_steps)
    return gradient_method(tx, epochs.num_steps, sample=sample, loss=loss, prepare=prepare)


def gradient_gap(key: Key, model: Model, variables: Variables, data: UnlearnData) -> PyTree:
    """Return the gradient of the mean loss over retain examples minus that over the forget set.

    The retain examples are as many as the forget set has, drawn with `key`, or all if fewer.
    """

    def total_loss(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        return cross_entropy(logits, batch.labels).sum()

    def mean_gradient(examples: Examples) -> PyTree:
        size = len(examples.labels)
        total = sum_over_batches(
            jax.grad(total_loss), variables.params, examples, min(size, GRADIENT_BATCH)
        )
        return jax.tree.map(lambda x: x / size, total)

    rows = jax.random.permutation(key, len(data.retain.labels))[: len(data.forget.labels)]
    retain, forget = mean_gradient(take(data.retain, rows)), mean_gradient(data.forget)
    return jax.tree.map(jnp.subtract, retain, forget)


def smallest(gap: PyTree, share: float) -> PyTree:
    """Return booleans: in each convolution kernel, the `share` of smallest absolute values.

    Every other array has a single False.
    """

    def choose(leaf: jax.Array) -> jax.Array:
        if not convolutions.is_kernel(leaf):
            return jnp.zeros((), bool)
        chosen = jnp.argsort(jnp.abs(leaf).ravel(), stable=True)[: round(share * leaf.size)]
        return jnp.zeros(leaf.size, bool).at[chosen].set(True).reshape(leaf.shape)

    return jax.tree.map(choose, gap)


def redraw(key: Key, params: PyTree, chosen: PyTree) -> PyTree:
    """Return `params` with the `chosen` convolution weights redrawn."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def draw(key: Key, leaf: jax.Array, where: jax.Array) -> jax.Array:
        if not convolutions.is_kernel(leaf):
            return leaf
        return jnp.where(where, draw_kernel(key, leaf.shape, leaf.dtype), leaf)

    return jax.tree.map(draw, keys, params, chosen)


def gradient_scale(chosen: PyTree, kept: float) -> PyTree:
    """Return factors on the gradient: `kept` for convolution weights that are not `chosen`."""
    return jax.tree.map(
        lambda where: jnp.where(where | (not convolutions.is_kernel(where)), 1.0, kept), chosen
    )


def damp(params: PyTree, scale: PyTree) -> PyTree:
    """Return `params` to the bit; a gradient that passes through is multiplied by `scale`."""
    return jax.tree.map(
        lambda x, factor: (
            jax.lax.stop_gradient(x) + factor.astype(x.dtype) * (x - jax.lax.stop_gradient(x))
        ),
        params,
        scale,
    )


METHOD = Method(
    name="msg",
    summary="redraw convolution weights of small gradient, then train on the accessible retain set",
    reference="NeurIPS 2023 unlearning challenge; Cadet et al. 2024, arXiv 2410.01276",
    build=msg,
    traced=("learning_rate", "momentum", "weight_decay"),
    config=MSGConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "reset": LogUniform(0.1, 0.6),
    },
)
