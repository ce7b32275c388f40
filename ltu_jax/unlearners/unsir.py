"""UNSIR: teach the network noise that it gets wrong as the classes to forget, then repair it.

Images of noise are optimised so that the original is as wrong as can be about their labels, which
are those of the forget set. Training on them beside the retain set impairs what the network knows
of these classes; training on the retain set alone repairs the others. The forget images themselves
are never looked at: of the forget set only the labels are used.

The method is made for whole classes. For other forget sets it runs all the same, and what it does
is then blunt: it impairs every class that the forget set has examples of, also those that the
retain set has too, and the repair brings them back.
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
from ltu_jax.unlearners.gradient_method import descend
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take


@dataclass(frozen=True)
class UNSIRConfig:
    """Options of UNSIR.

    Defaults are those of the authors' notebook (vikram2000b/Fast-Machine-Unlearning, CIFAR-10,
    ResNet-18), which uses Adam throughout. Two things of it are not followed: it labels the noise
    of every class with class 0, and it optimises noise in training mode, so that noise enters the
    BatchNorm statistics before anything is unlearned.

    Attributes:
      batch_size: examples per step, cut down to what there is.
      impair_epochs: passes over retain set and noise together.
      impair_learning_rate: of these passes.
      repair_epochs: passes over the retain set alone.
      repair_learning_rate: of these passes, which start with a new optimizer.
      noise_size: images of noise, each with the label of a forget example; theirs is per class.
      noise_share: share of noise among the examples of an impair pass, which repeats it as needed.
        Theirs: 20 times 256 for one class beside 9,000 retain images.
      noise_steps: of the optimisation of the noise.
      noise_learning_rate: of the optimisation of the noise.
      noise_penalty: factor on the squared norm of a noise image, in units of the inputs' deviation.

    Raises:
      InputError: a value is out of its range.
    """

    batch_size: int = 256
    impair_epochs: int = 1
    impair_learning_rate: float = 0.02
    repair_epochs: int = 1
    repair_learning_rate: float = 0.01
    noise_size: int = 256
    noise_share: float = 0.36
    noise_steps: int = 40
    noise_learning_rate: float = 0.1
    noise_penalty: float = 0.1

    def __post_init__(self):
        positive = ("batch_size", "impair_epochs", "impair_learning_rate", "repair_learning_rate")
        positive += ("noise_size", "noise_learning_rate")
        check_range(self, positive, lambda x: x > 0, "a number above 0")
        names = ("repair_epochs", "noise_steps", "noise_penalty")
        check_range(self, names, lambda x: x >= 0, "a number of at least 0")
        check_range(self, ("noise_share",), lambda x: 0 < x < 1, "a share between 0 and 1")


class UNSIRState(NamedTuple):
    """What impairing and repairing carry.

    Attributes:
      variables: the network.
      opt_state: of Adam, with the phase's learning rate.
      order_key: of the order in which examples come.
      noise: `noise_size` examples, see `make_noise`.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    noise: Examples


class UNSIRBatch(NamedTuple):
    """Examples `[B]`, noise among them, and whether the repair starts with them."""

    examples: Examples
    restart: jax.Array


def unsir(
    model: Model,
    spec: DataSpec,
    config: UNSIRConfig = UNSIRConfig(),
) -> Unlearner:
    """Build impairing by noise and repairing on the accessible retain set.

    BatchNorm normalises with the batch, noise included, and its statistics follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `UNSIRConfig`.

    Returns:
      The unlearner.
    """
    check_no_tokens("unsir", spec)
    num_retain = spec.num_retain
    num_mixed = round(num_retain / (1 - config.noise_share))
    batch_size = min(config.batch_size, num_retain)
    impair_steps = config.impair_epochs * batches_per_pass(num_mixed, batch_size)
    repair_steps = config.repair_epochs * batches_per_pass(num_retain, batch_size)
    impair, repair = (
        optax.inject_hyperparams(optax.adam)(learning_rate=rate)
        for rate in (config.impair_learning_rate, config.repair_learning_rate)
    )

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> UNSIRState:
        noise_key, order_key = jax.random.split(key)
        noise = make_noise(noise_key, model, variables, data, config)
        return UNSIRState(variables, impair.init(variables.params), order_key, noise)

    def sample(key: Key, t: jax.Array, state: UNSIRState, data: UnlearnData) -> UNSIRBatch:
        del key
        mixed_key, retain_key = jax.random.split(state.order_key)
        mixed = shuffled_rows(mixed_key, t, num_mixed, batch_size)
        retain = shuffled_rows(retain_key, jnp.maximum(t - impair_steps, 0), num_retain, batch_size)
        rows = jnp.where(t < impair_steps, mixed, retain)
        return UNSIRBatch(mix(data.retain, state.noise, rows), t == impair_steps)

    def step(key: Key, state: UNSIRState, batch: UNSIRBatch) -> tuple[UNSIRState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.examples.inputs,
            lambda logits: cross_entropy(logits, batch.examples.labels),
            train=True,
            key=key,
        )
        opt_state = jax.tree.map(
            lambda new, old: jnp.where(batch.restart, new, old),
            repair.init(state.variables.params),
            state.opt_state,
        )
        # The learning rate is part of the state: from the restart on it is that of the repair.
        variables, opt_state, loss = descend(impair, loss_fn, state.variables, opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    return Unlearner(
        prepare, sample, step, lambda state: state.variables, impair_steps + repair_steps
    )


def make_noise(
    key: Key, model: Model, variables: Variables, data: UnlearnData, config: UNSIRConfig
) -> Examples:
    r"""Return inputs that the network gets as wrong as can be under labels of the forget set.

    Noise :math:`u`, at first standard normal, enters the network as :math:`\mu + \sigma u`, with
    mean and deviation of the retain inputs over all but the last axis. Adam descends
    :math:`-CE(\mu + \sigma u, y) + \lambda \|u\|^2` in evaluation mode (Tarun et al. 2021, eq. 2).
    """
    label_key, noise_key = jax.random.split(key)
    rows = shuffled_rows(label_key, 0, len(data.forget.labels), config.noise_size)
    labels = data.forget.labels[rows]
    mean, std = jax.jit(_moments)(data.retain.inputs)
    tx = optax.adam(config.noise_learning_rate)

    def loss_fn(noise: jax.Array) -> jax.Array:
        logits, _ = model.apply(variables, mean + std * noise)
        norm = jnp.sum(noise**2, axis=range(1, noise.ndim))
        return jnp.mean(config.noise_penalty * norm - cross_entropy(logits, labels))

    @jax.jit
    def improve(noise: jax.Array, opt_state: optax.OptState):
        updates, opt_state = tx.update(jax.grad(loss_fn)(noise), opt_state)
        return optax.apply_updates(noise, updates), opt_state

    noise = jax.random.normal(
        noise_key, (config.noise_size, *data.retain.inputs.shape[1:]), mean.dtype
    )
    opt_state = tx.init(noise)
    for _ in range(config.noise_steps):
        noise, opt_state = improve(noise, opt_state)
    return Examples(mean + std * noise, labels)


def mix(retain: Examples, noise: Examples, rows: jax.Array) -> Examples:
    """Return rows of the retain set, and of the noise, repeated without end, laid behind it."""
    size = len(retain.labels)
    kept = take(retain, jnp.minimum(rows, size - 1))
    other = take(noise, jnp.maximum(rows - size, 0) % len(noise.labels))
    is_kept = rows < size
    inputs = jnp.where(
        is_kept.reshape(-1, *[1] * (other.inputs.ndim - 1)), _as_float(kept.inputs), other.inputs
    )
    return Examples(inputs, jnp.where(is_kept, kept.labels, other.labels))


def _as_float(inputs: Array) -> jax.Array:
    """Return inputs in the units in which networks take floats; uint8 is divided by 255."""
    return inputs.astype(jnp.float32) / 255 if inputs.dtype == jnp.uint8 else inputs


def _moments(inputs: Array) -> tuple[jax.Array, jax.Array]:
    inputs = _as_float(inputs)
    axes = range(inputs.ndim - 1)
    return inputs.mean(axes), inputs.std(axes)


METHOD = Method(
    name="unsir",
    summary="impair the forgotten classes by adversarial noise, then repair (made for classes)",
    reference="Tarun et al. 2021, arXiv 2111.08947",
    build=unsir,
    config=UNSIRConfig(),
    space={
        "impair_learning_rate": LogUniform(1e-3, 3e-2),
        "repair_learning_rate": LogUniform(1e-3, 3e-2),
        "repair_epochs": Choice((1, 2, 5)),
        "batch_size": Choice((32, 128)),
    },
)
