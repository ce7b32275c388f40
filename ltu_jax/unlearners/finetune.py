"""Fine-tuning on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import optax

from ltu_jax.training.losses import distilled_cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, DataSpec, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveFloat, PositiveInt, Share
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    mean_loss,
)
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class FineTuneConfig(SGDConfig):
    """Options of fine-tuning.

    Epochs, learning rate and weight decay are those of the Unlearn-Saliency scripts (Fan et al.
    2024); the cosine schedule is ours.

    Attributes:
      distill: share of the loss that is KL to the original model's outputs.
      temperature: softmax temperature of that KL.
    """

    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 0.01
    distill: Share = 0.0
    temperature: PositiveFloat = 2.0


class FineTuneBatch(NamedTuple):
    """Retain examples `[B]` and the original's logits for them, `[B, C]` or None."""

    inputs: Array
    labels: Array
    teacher: jax.Array | None


def finetune(
    model: Model,
    spec: DataSpec,
    config: FineTuneConfig = FineTuneConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build fine-tuning: continue training on the accessible retain set.

    .. math:: L(\theta) = (1 - d)\, CE(f_\theta(x), y) + d\, T^2\, KL(p_{\theta_0} \| p_\theta)

    with share :math:`d` and temperature :math:`T` of the distillation from the original
    :math:`\theta_0`.

    Returns:
      The unlearner. Info: `loss`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = finetune(model, spec, FineTuneConfig(epochs=20))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True

    References:
      Golatkar, Achille and Soatto, "Eternal Sunshine of the Spotless Net: Selective Forgetting in
      Deep Networks", 2020, https://arxiv.org/abs/1911.04933
    """
    epochs = Epochs(spec.num_retain, config.batch_size, config.epochs)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        teacher = predict(model, variables, data.retain.inputs) if config.distill else None
        return State(variables, key, teacher)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> FineTuneBatch:
        return take(FineTuneBatch(*data.retain, state.extra), epochs.rows(state.order_key, t))

    def per_example(logits: jax.Array, batch: FineTuneBatch) -> jax.Array:
        return distilled_cross_entropy(
            logits, batch.labels, batch.teacher, config.distill, config.temperature
        )

    return gradient_method(
        tx or config.optimizer(epochs.num_steps),
        epochs.num_steps,
        sample=sample,
        loss=mean_loss(model, per_example),
        prepare=prepare,
    )


METHOD = Method(
    name="finetune",
    summary="keep training on the accessible retain set",
    reference="Golatkar et al. 2020, arXiv 1911.04933",
    build=finetune,
    traced=(*SGD_NUMBERS, "temperature"),
    config=FineTuneConfig(),
    space={
        "learning_rate": LogUniform(5e-3, 2e-1),
        "epochs": Choice((5, 10)),
        "distill": Choice((0.0, 0.9)),
    },
)
