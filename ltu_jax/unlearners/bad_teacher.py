"""Bad teacher: imitate an untrained model on the forget set, the original on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.training.losses import distillation
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, DataSpec, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import (
    Choice,
    Config,
    LogUniform,
    Method,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from ltu_jax.unlearners.gradient_method import State, gradient_method, mean_loss
from ltu_jax.unlearners.sampling import Epochs, take, take_joint


@dataclass(frozen=True)
class BadTeacherConfig(Config):
    """Options of the bad teacher.

    All defaults but `retain_share` are those of the authors' scripts as Foster et al. (2024) run
    them: Adam, without weight decay, at a constant rate.

    Attributes:
      epochs: passes over the forget set together with the retain examples that take part.
      batch_size: examples per step, at most as many as there are.
      learning_rate: Adam's learning rate.
      temperature: softmax temperature of the KL.
      retain_share: share of the accessible retain set that takes part, drawn once. The authors take
        0.3 of the whole retain set, which is about what is accessible by default.
    """

    epochs: PositiveInt = 1
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-4
    temperature: PositiveFloat = 1.0
    retain_share: PositiveShare = 1.0


class Teaching(NamedTuple):
    """What the teachers say.

    Attributes:
      rows: `[n]` rows of the examples that take part, in forget and retain set laid end to end.
      teacher: `[n, C]` logits of their teachers.
    """

    rows: jax.Array
    teacher: jax.Array


class BadTeacherBatch(NamedTuple):
    """Inputs `[B, ...]` and the logits of their teachers `[B, C]`."""

    inputs: Array
    teacher: jax.Array


def bad_teacher(
    model: Model,
    spec: DataSpec,
    config: BadTeacherConfig = BadTeacherConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build distillation from an incompetent and a competent teacher.

    .. math:: L(\theta) = T^2\, KL\big(p_{teacher(x)}(x) \| p_\theta(x)\big)

    on forget and retain examples shuffled together. The teacher is `model.init` at new random
    weights for forget examples, the original for retain examples. Labels are not used. The
    authors' code averages over classes as well, without :math:`T^2`; Adam makes that no difference
    but for its epsilon.

    Returns:
      The unlearner. Info: `loss`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = bad_teacher(model, spec, BadTeacherConfig(epochs=30, learning_rate=0.1))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True

    References:
      Chundawat, Tarun, Mandal and Kankanhalli, "Can Bad Teaching Induce Forgetting? Unlearning in
      Deep Networks using an Incompetent Teacher", 2022, https://arxiv.org/abs/2205.08096
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    num_chosen = max(int(config.retain_share * num_retain), 1)
    epochs = Epochs(num_forget + num_chosen, config.batch_size, config.epochs)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        order_key, init_key, choice_key = jax.random.split(key, 3)
        untrained = model.init(init_key, data.forget.inputs[:1])
        chosen = jax.random.permutation(choice_key, num_retain)[:num_chosen]
        teacher = (
            predict(model, untrained, data.forget.inputs),
            predict(model, variables, take(data.retain.inputs, chosen)),
        )
        rows = jnp.concatenate([jnp.arange(num_forget), num_forget + chosen])
        return State(variables, order_key, Teaching(rows, jnp.concatenate(teacher)))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> BadTeacherBatch:
        rows, teacher = take(state.extra, epochs.rows(state.order_key, t))
        return BadTeacherBatch(take_joint(data.forget, data.retain, rows).inputs, teacher)

    def per_example(logits: jax.Array, batch: BadTeacherBatch) -> jax.Array:
        return distillation(logits, batch.teacher, config.temperature)

    return gradient_method(
        tx or optax.adam(config.learning_rate),
        epochs.num_steps,
        sample=sample,
        loss=mean_loss(model, per_example),
        prepare=prepare,
    )


METHOD = Method(
    name="bad_teacher",
    summary="imitate an untrained model on the forget set, the original on the retain set",
    reference="Chundawat et al. 2022, arXiv 2205.08096",
    build=bad_teacher,
    traced=("epochs", "learning_rate", "temperature"),
    config=BadTeacherConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((1, 3, 5)),
    },
)
