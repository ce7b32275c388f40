"""UNSIR: impair the classes of the forget set by adversarial noise, then repair the others.

Noise images are optimised to maximise the original's loss under the labels of the forget set.
Training on them and the retain set impairs these classes; training on the retain set alone repairs
the others. Of the forget set only the labels are used.

The method is made for whole classes. With other forget sets it impairs every class that has forget
examples, and the repair restores those that the retain set has as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    Array,
    DataSpec,
    Examples,
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
    LogUniform,
    Method,
    NonNegativeFloat,
    NonNegativeInt,
    OpenShare,
    PositiveFloat,
    PositiveInt,
    check_no_tokens,
)
from ltu_jax.unlearners.gradient_method import State, gradient_method, mean_loss
from ltu_jax.unlearners.sampling import Epochs, shuffled_rows, take


@dataclass(frozen=True)
class UNSIRConfig(Config):
    """Options of UNSIR.

    Defaults are those of the authors' notebook (vikram2000b/Fast-Machine-Unlearning, CIFAR-10,
    ResNet-18), which uses Adam throughout. We do not follow it in two things: it labels the noise
    of every class with class 0, and it optimises noise in training mode, which changes the
    BatchNorm statistics before anything is unlearned.

    Attributes:
      batch_size: examples per step, at most as many as there are retain examples.
      impair_epochs: passes over retain set and noise together.
      impair_learning_rate: learning rate of these passes.
      repair_epochs: passes over the retain set alone.
      repair_learning_rate: learning rate of these passes, which start with a new optimizer.
      noise_size: number of noise images, each with the label of a forget example; theirs is per
        class.
      noise_share: share of noise among the examples of an impair pass; noise is repeated as needed.
        Theirs is 20 times 256 for one class with 9,000 retain images.
      noise_steps: Adam steps on the noise.
      noise_learning_rate: learning rate of these steps.
      noise_penalty: weight of the squared norm of a noise image, in units of the inputs' deviation.
    """

    batch_size: PositiveInt = 256
    impair_epochs: PositiveInt = 1
    impair_learning_rate: PositiveFloat = 0.02
    repair_epochs: NonNegativeInt = 1
    repair_learning_rate: PositiveFloat = 0.01
    noise_size: PositiveInt = 256
    noise_share: OpenShare = 0.36
    noise_steps: NonNegativeInt = 40
    noise_learning_rate: PositiveFloat = 0.1
    noise_penalty: NonNegativeFloat = 0.1


def unsir(model: Model, spec: DataSpec, config: UNSIRConfig = UNSIRConfig()) -> Unlearner:
    r"""Build impairing by noise and repairing on the accessible retain set.

    .. math:: L_{impair}(\theta) = CE\big(f_\theta(x), y\big), \quad (x, y) \in D_{retain} \cup
        \{(u^*, y_f)\}, \qquad L_{repair}(\theta) = CE\big(f_\theta(x_r), y_r\big)

    with the noise :math:`u^*` of `make_noise`. BatchNorm statistics see the noise too.

    Returns:
      The unlearner. Info: `loss`.

    Raises:
      InputError: inputs are integer tokens.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = unsir(model, spec, UNSIRConfig(repair_epochs=3, noise_size=4))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> history["loss"].shape  # 2 steps impair, 3 repair
      (5,)

    References:
      Tarun, Chundawat, Mandal and Kankanhalli, "Fast Yet Effective Machine Unlearning", 2021,
      https://arxiv.org/abs/2111.08947
    """
    check_no_tokens("unsir", spec)
    num_mixed = round(spec.num_retain / (1 - config.noise_share))
    batch_size = min(config.batch_size, spec.num_retain)
    impair = Epochs(num_mixed, batch_size, config.impair_epochs)
    repair = Epochs(spec.num_retain, batch_size, config.repair_epochs)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        noise_key, order_key = jax.random.split(key)
        return State(variables, order_key, make_noise(noise_key, model, variables, data, config))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        mixed_key, retain_key = jax.random.split(state.order_key)
        after = t - impair.num_steps
        retain = repair.rows(retain_key, jnp.maximum(after, 0))
        return mix(
            data.retain, state.extra, jnp.where(after < 0, impair.rows(mixed_key, t), retain)
        )

    return gradient_method(
        _two_phases(config, impair.num_steps),
        impair.num_steps + repair.num_steps,
        sample=sample,
        loss=mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels)),
        prepare=prepare,
    )


class PhaseState(NamedTuple):
    """Number of steps taken, and the state of Adam in the current phase."""

    count: jax.Array
    inner: PyTree


def _two_phases(config: UNSIRConfig, impair_steps: int) -> optax.GradientTransformation:
    """Return Adam that starts again after some steps, with another learning rate."""
    impair, repair = (
        optax.inject_hyperparams(optax.adam)(learning_rate=rate)
        for rate in (config.impair_learning_rate, config.repair_learning_rate)
    )

    def init(params: PyTree) -> PhaseState:
        return PhaseState(jnp.asarray(0), impair.init(params))

    def update(updates: PyTree, state: Any, params: Any = None) -> tuple[PyTree, Any]:
        # The learning rate is part of the state: from the restart on it is that of the repair.
        inner = jax.tree.map(
            lambda new, old: jnp.where(state.count == impair_steps, new, old),
            repair.init(params),
            state.inner,
        )
        updates, inner = impair.update(updates, inner, params)
        return updates, PhaseState(state.count + 1, inner)

    return optax.GradientTransformation(init, update)


def make_noise(
    key: Key, model: Model, variables: Variables, data: UnlearnData, config: UNSIRConfig
) -> Examples:
    r"""Return inputs that maximise the model's loss under labels of the forget set.

    .. math:: u^* = \arg\min_u -CE(f(\mu + \sigma u), y_f) + \lambda \|u\|^2

    by Adam from standard normal noise, in evaluation mode (Tarun et al. 2021, eq. 2), with mean and
    deviation of the retain inputs over all but the last axis.
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
    """Return rows of the retain set followed by endless repetitions of the noise."""
    size = len(retain.labels)
    kept = take(retain, jnp.minimum(rows, size - 1))
    other = take(noise, jnp.maximum(rows - size, 0) % len(noise.labels))
    is_kept = rows < size
    inputs = jnp.where(
        is_kept.reshape(-1, *[1] * (other.inputs.ndim - 1)), _as_float(kept.inputs), other.inputs
    )
    return Examples(inputs, jnp.where(is_kept, kept.labels, other.labels))


def _as_float(inputs: Array) -> jax.Array:
    """Return inputs as floats; uint8 is divided by 255."""
    return (
        jnp.asarray(inputs, jnp.float32) / 255 if inputs.dtype == jnp.uint8 else jnp.asarray(inputs)
    )


def _moments(inputs: Array) -> tuple[jax.Array, jax.Array]:
    inputs = _as_float(inputs)
    axes = range(inputs.ndim - 1)
    return inputs.mean(axes), inputs.std(axes)


METHOD = Method(
    name="unsir",
    summary="impair the forgotten classes by adversarial noise, then repair (made for classes)",
    reference="Tarun et al. 2021, arXiv 2111.08947",
    build=unsir,
    traced=("impair_learning_rate", "repair_learning_rate"),
    config=UNSIRConfig(),
    space={
        "impair_learning_rate": LogUniform(1e-3, 3e-2),
        "repair_learning_rate": LogUniform(1e-3, 3e-2),
        "repair_epochs": Choice((1, 2, 5)),
        "batch_size": Choice((32, 128)),
    },
)
