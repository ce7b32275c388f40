"""Boundary shrink: teach each forget example the class that lies nearest to it.

The nearest class is the one that the original predicts after one step of the fast gradient sign
method away from the example's own class. Trained on it, the decision boundary moves over the
example. The retain set is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import InputError, check_range
from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Array,
    DataSpec,
    Examples,
    Info,
    Key,
    Model,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method, check_no_tokens
from ltu_jax.unlearners.gradient_method import SGDConfig, descend
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take


@dataclass(frozen=True)
class BoundaryShrinkConfig(SGDConfig):
    """Options of boundary shrink.

    Defaults are those of the authors' code (TY-LEE-KR/Boundary-Unlearning-Code): 10 epochs of SGD
    in batches of 64 at learning rate 1e-5, no weight decay. The search goes up to the 0.01 of the
    Unlearn-Saliency scripts (Fan et al. 2024).

    Attributes:
      epsilon: how far every input value is moved to find the nearest class, as a share of what the
        value can be: of 0 to 255 for uint8, else of the feature's range in the visible data.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    epsilon: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("epsilon",), lambda x: 0 < x <= 1, "a share above 0 and of at most 1")


class BoundaryShrinkState(NamedTuple):
    """What boundary shrink carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      nearest: `[n_f]` the nearest class of every forget example.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    nearest: jax.Array


def boundary_shrink(
    model: Model,
    spec: DataSpec,
    config: BoundaryShrinkConfig = BoundaryShrinkConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build boundary shrink; of the retain set only the range of float features is used.

    BatchNorm normalises with the batch, and its statistics follow: they become the forget set's.

    Args:
      model: takes raw inputs, uint8 also as floats from 0 to 1.
      spec: sizes and types of the data.
      config: see `BoundaryShrinkConfig`; an epoch is a pass over the forget set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner; a batch is forget `Examples` with their nearest classes as labels. `prepare`
      raises `InputError` if `model` treats uint8 and the same in floats differently.
    """
    check_no_tokens("boundary_shrink", spec)
    num_forget = spec.num_forget
    batch_size = min(config.batch_size, num_forget)
    num_steps = config.epochs * batches_per_pass(num_forget, batch_size)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> BoundaryShrinkState:
        nearest = nearest_classes(model, variables, data, config.epsilon)
        return BoundaryShrinkState(variables, tx.init(variables.params), key, nearest)

    def sample(key: Key, t: jax.Array, state: BoundaryShrinkState, data: UnlearnData) -> Examples:
        del key
        rows = shuffled_rows(state.order_key, t, num_forget, batch_size)
        return take(Examples(data.forget.inputs, state.nearest), rows)

    def step(
        key: Key, state: BoundaryShrinkState, batch: Examples
    ) -> tuple[BoundaryShrinkState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.inputs,
            lambda logits: cross_entropy(logits, batch.labels),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"nearest_loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


def nearest_classes(
    model: Model, variables: Variables, data: UnlearnData, epsilon: float, *, batch_size: int = 512
) -> jax.Array:
    r"""Return `[n_f]` classes :math:`\arg\max f(x')` of the forget set, in evaluation mode.

    With :math:`x' = x + \epsilon (h - l) \mathrm{sign} \nabla_x CE(f(x), y)` clipped to the range
    :math:`l, h` of the inputs, and rounded to whole levels for uint8 (Chen et al. 2023, section
    3.2). An example that one step does not take out of its class keeps it.

    Raises:
      InputError: the network takes uint8 inputs otherwise than divided by 255.
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
    """Return inputs in the units in which networks take floats; uint8 is divided by 255."""
    # By a table, as XLA multiplies by 1/255 instead, which is another number: a tenth of the range
    # is 25.5 levels, and which way these are rounded hangs on the last bit.
    return jnp.asarray(np.arange(256) / 255)[inputs] if inputs.dtype == jnp.uint8 else inputs


def _value_range(data: UnlearnData) -> tuple[jax.Array, jax.Array]:
    """Return the lowest and highest input: 0 and 1 of uint8, else `[F]` of the visible data."""
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
            f"--model {model.name}: uint8 inputs and the same as floats from 0 to 1 must give the "
            "same outputs, but do not; divide only uint8 by 255, or choose another method"
        )


METHOD = Method(
    name="boundary_shrink",
    summary="relabel the forget set with the class just across the decision boundary",
    reference="Chen et al. 2023, arXiv 2303.11570",
    build=boundary_shrink,
    config=BoundaryShrinkConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((5, 10)),
        "epsilon": Choice((0.05, 0.1, 0.2)),
    },
)
