"""Gradient ascent on the loss of the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import optax

from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Invariants,
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
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    masked,
    mean_loss,
)
from ltu_jax.unlearners.saliency import saliency_mask
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class GradientAscentConfig(SGDConfig):
    """Options of gradient ascent.

    Epochs, learning rate, momentum and weight decay are those of the Unlearn-Saliency scripts (Fan
    et al. 2024), whose step schedule does not decay within 5 epochs.

    Attributes:
      share: share of the weights that are trained: those with the largest `saliency` on the forget
        set. 1 trains all, as plain gradient ascent does.
    """

    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    share: PositiveShare = 1.0


def gradient_ascent(
    model: Model,
    spec: DataSpec,
    config: GradientAscentConfig = GradientAscentConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build gradient ascent on the forget set; an epoch is a pass over it.

    .. math:: L(\theta) = -CE(f_\theta(x_f), y_f)

    The retain set is not used. Weight decay still shrinks the weights.

    Returns:
      The unlearner. Info: `forget_loss`, the cross-entropy.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = gradient_ascent(model, spec, GradientAscentConfig(learning_rate=0.1))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["forget_loss"][-1] > history["forget_loss"][0])
      True

    References:
      Thudi, Deza, Chandrasekaran and Papernot, "Unrolling SGD: Understanding Factors Influencing
      Machine Unlearning", 2021, https://arxiv.org/abs/2109.13398
    """
    epochs = Epochs(spec.num_forget, config.batch_size, config.epochs)
    sparse = config.share < 1

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        mask = None
        if sparse:
            mask = saliency_mask(model, variables, data.forget, config.share, config.batch_size)
        return State(variables, key, trainable_mask=mask)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        return take(data.forget, epochs.rows(state.order_key, t))

    return gradient_method(
        tx or config.optimizer(epochs.num_steps),
        epochs.num_steps,
        sample=sample,
        loss=mean_loss(model, lambda logits, batch: -cross_entropy(logits, batch.labels)),
        prepare=prepare,
        info=lambda loss: {"forget_loss": -loss},
        invariants=Invariants(trainable_mask=masked if sparse else None),
    )


METHOD = Method(
    name="gradient_ascent",
    summary="climb the loss of the forget set",
    reference="Thudi et al. 2021, arXiv 2109.13398",
    build=gradient_ascent,
    traced=SGD_NUMBERS,
    config=GradientAscentConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((5, 10)),
        "share": Choice((0.5, 1.0)),
    },
)
