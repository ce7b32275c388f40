"""Boundary shrink: relabel each forget example with its nearest class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import InputError
from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Array,
    DataSpec,
    Examples,
    Key,
    Model,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import (
    Choice,
    LogUniform,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    check_no_tokens,
)
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    mean_loss,
)
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class BoundaryConfig(SGDConfig):
    """Options of boundary shrink and boundary expand.

    Defaults are those of the authors' code (TY-LEE-KR/Boundary-Unlearning-Code). The search goes up
    to the learning rate 0.01 of the Unlearn-Saliency scripts (Fan et al. 2024).
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-5
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine"] = "constant"


@dataclass(frozen=True)
class BoundaryShrinkConfig(BoundaryConfig):
    """Options of boundary shrink.

    Attributes:
      epsilon: step of every input value towards the nearest class, as a share of its range: 0 to
        255 for uint8, else the range of the feature in forget and retain set.
    """

    epsilon: PositiveShare = 0.1


def boundary_shrink(
    model: Model,
    spec: DataSpec,
    config: BoundaryShrinkConfig = BoundaryShrinkConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build boundary shrink; an epoch is a pass over the forget set.

    .. math:: L(\theta) = CE(f_\theta(x_f), y'_f), \qquad y'_f = \arg\max f_{\theta_0}\big(
        x_f + \epsilon\, \mathrm{sign} \nabla_x CE(f_{\theta_0}(x_f), y_f)\big)

    Training on the nearest classes moves the decision boundary over the forget examples. Of the
    retain set only the range of float features is used. The BatchNorm statistics become the forget
    set's.

    Returns:
      The unlearner. Info: `nearest_loss`. `prepare` raises `InputError` if `model` treats uint8
      inputs and the same inputs divided by 255 differently.

    Raises:
      InputError: inputs are integer tokens.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = boundary_shrink(model, spec, BoundaryShrinkConfig(learning_rate=0.1))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["nearest_loss"][-1] < history["nearest_loss"][0])
      True

    References:
      Chen, Gao, Liu, Peng and Wang, "Boundary Unlearning", 2023, https://arxiv.org/abs/2303.11570
    """
    check_no_tokens("boundary_shrink", spec)
    epochs = Epochs(spec.num_forget, config.batch_size, config.epochs)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        return State(variables, key, nearest_classes(model, variables, data, config.epsilon))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        rows = epochs.rows(state.order_key, t)
        return take(Examples(data.forget.inputs, state.extra), rows)

    return gradient_method(
        tx or config.optimizer(epochs.num_steps),
        epochs.num_steps,
        sample=sample,
        loss=mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels)),
        prepare=prepare,
        info=lambda loss: {"nearest_loss": loss},
    )


def nearest_classes(
    model: Model, variables: Variables, data: UnlearnData, epsilon: float, *, batch_size: int = 512
) -> jax.Array:
    r"""Return `[n_f]` classes :math:`\arg\max f(x')` of the forget set, in evaluation mode.

    With :math:`x' = x + \epsilon (h - l) \mathrm{sign} \nabla_x CE(f(x), y)` clipped to the range
    :math:`l, h` of the inputs, and rounded to whole levels for uint8 (Chen et al. 2023, section
    3.2). An example that stays in its class keeps it.

    Raises:
      InputError: the model does not divide uint8 inputs, and only these, by 255.
    """
    examples = data.forget
    if examples.inputs.dtype == jnp.uint8:
        _check_scale(model, variables, examples.inputs[:1])
    low, high = _value_range(data)
    perturb = jit(partial(_perturb, model))
    size = min(batch_size, len(examples.labels))
    moved = []
    for start in range(0, len(examples.labels), size):
        # The last batch is filled up from the first examples: one shape, one compilation.
        batch = take(examples, (start + np.arange(size)) % len(examples.labels))
        floats = Examples(_as_float(batch.inputs), batch.labels)
        moved.append(perturb(variables, floats, low, high, epsilon))
    inputs = jnp.concatenate(moved)[: len(examples.labels)]
    if examples.inputs.dtype == jnp.uint8:
        inputs = jnp.round(inputs * 255).astype(jnp.uint8)
    return predict(model, variables, inputs).argmax(-1).astype(examples.labels.dtype)


def _perturb(
    model: Model,
    variables: Variables,
    examples: Examples,
    low: jax.Array,
    high: jax.Array,
    epsilon: float,
) -> jax.Array:
    def loss_fn(inputs: jax.Array) -> jax.Array:
        return cross_entropy(model.apply(variables, inputs)[0], examples.labels).sum()

    direction = jnp.sign(jax.grad(loss_fn)(examples.inputs))
    return jnp.clip(examples.inputs + epsilon * (high - low) * direction, low, high)


def _as_float(inputs: Array) -> jax.Array:
    """Return inputs as floats; uint8 is divided by 255."""
    # XLA would multiply by 1/255, which differs in the last bit; that decides how a step of 25.5
    # levels, a tenth of the range, is rounded. So divide in NumPy and look the values up.
    if inputs.dtype == jnp.uint8:
        return jnp.asarray(np.arange(256) / 255)[inputs]
    return jnp.asarray(inputs)


def _value_range(data: UnlearnData) -> tuple[jax.Array, jax.Array]:
    """Return the lowest and highest input: 0 and 1 for uint8, else `[F]` of the data."""
    sets = [data.forget.inputs, data.retain.inputs]
    if sets[0].dtype == jnp.uint8:
        return jnp.zeros(()), jnp.ones(())
    axes = range(sets[0].ndim - 1)
    low, high = ([reduce(x, axes) for x in sets] for reduce in (jnp.min, jnp.max))
    return jnp.minimum(*low), jnp.maximum(*high)


def _check_scale(model: Model, variables: Variables, inputs: Array) -> None:
    as_stored, as_float = (predict(model, variables, x) for x in (inputs, _as_float(inputs)))
    if not np.allclose(as_stored, as_float, rtol=1e-3, atol=1e-3):
        raise InputError(
            "model",
            f"{model.name} gives other outputs for uint8 inputs than for the same divided by 255",
            "divide only uint8 inputs by 255, or choose another method",
        )


METHOD = Method(
    name="boundary_shrink",
    summary="relabel the forget set with the class just across the decision boundary",
    reference="Chen et al. 2023, arXiv 2303.11570",
    build=boundary_shrink,
    traced=SGD_NUMBERS,
    config=BoundaryShrinkConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((5, 10)),
        "epsilon": Choice((0.05, 0.1, 0.2)),
    },
)
