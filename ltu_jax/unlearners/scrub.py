"""SCRUB: alternate passes away from the original on the forget set and towards it on the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ltu_jax.training.losses import cross_entropy, distillation
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, DataSpec, Key, Model, UnlearnData, Unlearner, Variables
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
from ltu_jax.unlearners.gradient_method import State, gradient_method, mean_loss
from ltu_jax.unlearners.rewind import with_rewind
from ltu_jax.unlearners.sampling import batches_per_pass, shuffled_rows, take, take_joint

PositiveInts = Annotated[
    tuple[int, ...], Constraint(lambda x: all(one > 0 for one in x), "numbers above 0")
]


@dataclass(frozen=True)
class ScrubConfig(Config):
    """Options of SCRUB.

    Learning rate, momentum, weight decay and decay rate are those of the paper's large-scale runs,
    the other defaults those of the authors' notebooks. The authors cut the forget set into smaller
    batches than the retain set, which gives more forget steps. Here one batch size serves both.

    Attributes:
      epochs: passes over the accessible retain set.
      max_epochs: number of epochs, from the first, that start with a pass over the forget set.
      batch_size: examples per step; at most the accessible retain set.
      learning_rate: rate before any decay.
      momentum: SGD momentum; one buffer serves both passes.
      weight_decay: L2 coefficient, added to the gradient before momentum.
      decay_epochs: epochs after which the learning rate is multiplied by `decay_rate`.
      decay_rate: factor on the learning rate.
      alpha: weight of the KL to the original on the retain set.
      gamma: weight of the cross-entropy on the retain set.
      temperature: softmax temperature of the KL.
      rewind: whether to return the epoch that `with_rewind` chooses (SCRUB+R). The paper advises it
        against membership inference. It uses validation examples, which no other baseline does, and
        holds one copy of the model per epoch.
    """

    epochs: PositiveInt = 3
    max_epochs: PositiveInt = 2
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 5e-4
    momentum: ShareBelowOne = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    decay_epochs: PositiveInts = (3, 5, 9)
    decay_rate: PositiveShare = 0.1
    alpha: NonNegativeFloat = 0.001
    gamma: NonNegativeFloat = 0.99
    temperature: PositiveFloat = 4.0
    rewind: bool = False


class Steps(NamedTuple):
    """What each step of a run does, `[num_steps]` arrays.

    Attributes:
      epoch: epoch of the step, from 0.
      minimise: whether it is a retain step; else it is a forget step.
      index: number of earlier steps of the same type.
    """

    epoch: np.ndarray
    minimise: np.ndarray
    index: np.ndarray


def plan_steps(config: ScrubConfig, num_forget: int, num_retain: int) -> Steps:
    """Return the steps of a run on sets of these sizes.

    >>> plan_steps(ScrubConfig(epochs=2, max_epochs=1), 10, 20).minimise.tolist()
    [False, True, True]
    """
    batch_size = min(config.batch_size, num_retain)
    per_pass = [batches_per_pass(size, batch_size) for size in (num_forget, num_retain)]
    steps = [
        (epoch, minimise, epoch * count + i)
        for epoch in range(config.epochs)
        for minimise, count in zip((False, True), per_pass, strict=True)
        if minimise or epoch < config.max_epochs
        for i in range(count)
    ]
    return Steps(*map(np.asarray, zip(*steps, strict=True)))


def learning_rates(config: ScrubConfig, epochs: np.ndarray) -> optax.Schedule:
    """Return the learning rate as a function of the step, given the epoch of each step."""

    def rate(t: ArrayLike) -> jax.Array:
        decays = jnp.sum(jnp.asarray(config.decay_epochs) <= jnp.asarray(epochs)[t])
        return config.learning_rate * config.decay_rate**decays

    return rate


class ScrubBatch(NamedTuple):
    """Input of one step.

    Attributes:
      inputs: `[B, ...]` of the retain set if `minimise`, else of the forget set.
      labels: `[B]` their labels.
      teacher: `[B, C]` logits of the original for them.
      minimise: whether it is a retain step.
    """

    inputs: Array
    labels: Array
    teacher: jax.Array
    minimise: jax.Array


def scrub(
    model: Model,
    spec: DataSpec,
    config: ScrubConfig = ScrubConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build SCRUB, or SCRUB+R if `config.rewind`.

    The original is the teacher, its copy the student. A forget step descends the first loss, a
    retain step the second:

    .. math::
        -T^2\, KL(p_{teacher} \| p), \qquad
        \gamma\, CE + \alpha\, T^2\, KL(p_{teacher} \| p).

    At the start the KL is at its minimum. Unless BatchNorm or dropout separate the two models, the
    first step has no gradient and only decays weights: a forget set of one batch and `max_epochs=1`
    make SCRUB mere fine-tuning. BatchNorm is in training mode in both passes; the teacher's outputs
    are those of evaluation mode.

    Returns:
      The unlearner; `info` holds the `loss`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> unlearner, key = scrub(model, spec), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> history["loss"].shape
      (5,)

    References:
      Kurmanji et al., "Towards Unbounded Machine Unlearning", 2023,
      https://arxiv.org/abs/2302.09880
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    steps = plan_steps(config, num_forget, num_retain)
    rates = learning_rates(config, steps.epoch)
    tx = tx or torch_sgd(rates, config.momentum, config.weight_decay)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        parts = [predict(model, variables, part.inputs) for part in (data.forget, data.retain)]
        return State(variables, key, extra=jnp.concatenate(parts))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> ScrubBatch:
        _, minimise, index = (jnp.asarray(column)[t] for column in steps)
        forget_key, retain_key = jax.random.split(state.order_key)
        rows = jnp.where(
            minimise,
            num_forget + shuffled_rows(retain_key, index, num_retain, batch_size),
            shuffled_rows(forget_key, index, num_forget, batch_size),
        )
        examples = take_joint(data.forget, data.retain, rows)
        return ScrubBatch(*examples, take(state.extra, rows), minimise)

    def per_example(logits: jax.Array, batch: ScrubBatch) -> jax.Array:
        kl = distillation(logits, batch.teacher, config.temperature)
        obey = config.gamma * cross_entropy(logits, batch.labels) + config.alpha * kl
        return jnp.where(batch.minimise, obey, -kl)

    unlearner = gradient_method(
        tx,
        len(steps.epoch),
        sample=sample,
        loss=mean_loss(model, per_example),
        prepare=prepare,
    )
    return with_rewind(unlearner, model, steps.epoch) if config.rewind else unlearner


METHOD = Method(
    name="scrub",
    summary="leave the original's outputs on the forget set, keep them on the retain set",
    reference="Kurmanji et al. 2023, arXiv 2302.09880",
    build=scrub,
    traced=(
        "learning_rate",
        "momentum",
        "weight_decay",
        "decay_rate",
        "alpha",
        "gamma",
        "temperature",
    ),
    config=ScrubConfig(),
    space={
        "learning_rate": LogUniform(5e-4, 5e-2),
        "epochs": Choice((3, 5, 10)),
        "max_epochs": Choice((1, 2, 3)),
    },
)
