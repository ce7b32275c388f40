"""Bad teacher: imitate an untrained network on the forget set, the original on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import distillation
from ltu_jax.training.supervised import predict
from ltu_jax.types import DataSpec, Info, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import descend
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take, take_joint


@dataclass(frozen=True)
class BadTeacherConfig:
    """Options of the bad teacher.

    All defaults but `retain_share` and `kl_scale` are those of the authors' scripts as Foster et
    al. (2024) run them in their comparison: Adam, without weight decay, at a constant rate.

    Attributes:
      epochs: passes over the forget set together with the retain examples that take part.
      batch_size: examples per step; cut down to what there is.
      learning_rate: of Adam.
      temperature: of the KL.
      retain_share: share of the accessible retain set that takes part, drawn once. The authors take
        0.3 of the whole retain set, which is about what is accessible by default.
      kl_scale: `"batch_mean"` is the mean over the batch of T^2 KL. `"reference"` is what the
        authors' code computes: the mean over batch and classes of KL's terms, which is 1 / (C T^2)
        of it; not the default, because a learning rate then depends on the number of classes.

    Raises:
      InputError: a value is out of its range.
    """

    epochs: int = 1
    batch_size: int = 256
    learning_rate: float = 1e-4
    temperature: float = 1.0
    retain_share: float = 1.0
    kl_scale: Literal["batch_mean", "reference"] = "batch_mean"

    def __post_init__(self):
        positive = ("epochs", "batch_size", "learning_rate", "temperature")
        check_range(self, positive, lambda x: x > 0, "a number above 0")
        check_range(self, ("retain_share",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")
        scales = ("batch_mean", "reference")
        check_range(self, ("kl_scale",), lambda x: x in scales, " or ".join(scales))


class BadTeacherState(NamedTuple):
    """What the bad teacher carries.

    Attributes:
      variables: the student.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      rows: `[n]` of the examples that take part, in forget and retain set laid end to end.
      teacher: `[n, C]` logits to learn for them: fresh weights' on forget examples, the original's
        on retain examples.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    rows: jax.Array
    teacher: jax.Array


class BadTeacherBatch(NamedTuple):
    """Inputs `[B, ...]` and the logits `[B, C]` to learn for them; labels take no part."""

    inputs: jax.Array
    teacher: jax.Array


def bad_teacher(
    model: Model,
    spec: DataSpec,
    config: BadTeacherConfig = BadTeacherConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build unlearning from an incompetent teacher (Chundawat et al. 2022).

    Each step descends :math:`KL(p_{teacher} \| p)` on forget and retain examples shuffled together;
    the teacher is `model.init` at fresh random weights for the former, the original for the latter.

    BatchNorm of the student normalises with the batch, and its statistics follow; both teachers
    are in evaluation mode.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `BadTeacherConfig`.
      tx: the optimizer; None takes Adam at the config's learning rate.

    Returns:
      The unlearner.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    num_chosen = max(int(config.retain_share * num_retain), 1)
    num_examples = num_forget + num_chosen
    batch_size = min(config.batch_size, num_examples)
    num_steps = config.epochs * batches_per_pass(num_examples, batch_size)
    scale = 1 / (spec.num_classes * config.temperature**2) if config.kl_scale == "reference" else 1
    tx = tx or optax.adam(config.learning_rate)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> BadTeacherState:
        order_key, init_key, choice_key = jax.random.split(key, 3)
        ignorant = model.init(init_key, data.forget.inputs[:1])
        chosen = jax.random.permutation(choice_key, num_retain)[:num_chosen]
        teacher = (
            predict(model, ignorant, data.forget.inputs),
            predict(model, variables, take(data.retain.inputs, chosen)),
        )
        return BadTeacherState(
            variables,
            tx.init(variables.params),
            order_key,
            jnp.concatenate([jnp.arange(num_forget), num_forget + chosen]),
            jnp.concatenate(teacher),
        )

    def sample(
        key: Key, t: jax.Array, state: BadTeacherState, data: UnlearnData
    ) -> BadTeacherBatch:
        del key
        rows, teacher = take(
            (state.rows, state.teacher), shuffled_rows(state.order_key, t, num_examples, batch_size)
        )
        return BadTeacherBatch(take_joint(data.forget, data.retain, rows).inputs, teacher)

    def step(
        key: Key, state: BadTeacherState, batch: BadTeacherBatch
    ) -> tuple[BadTeacherState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.inputs,
            lambda logits: scale * distillation(logits, batch.teacher, config.temperature),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


METHOD = Method(
    name="bad_teacher",
    summary="imitate an untrained network on the forget set, the original on the retain set",
    reference="Chundawat et al. 2022, arXiv 2205.08096",
    build=bad_teacher,
    config=BadTeacherConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((1, 3, 5)),
    },
)
