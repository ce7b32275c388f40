"""SalUn: random labels that move only the weights that the forget set depends on most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.types import DataSpec, Model, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import LossFn, descend
from ltu_jax.unlearners.random_label import RandomLabelConfig, random_label
from ltu_jax.unlearners.saliency import saliency_mask


@dataclass(frozen=True)
class SalUnConfig(RandomLabelConfig):
    """Options of SalUn.

    Share 0.5, the sequential order and labels drawn anew are those of the authors' CIFAR-10 runs
    (Fan et al. 2024); epochs and learning rate are their scripts' defaults, while their example
    command takes a rate of 0.1. They let the true label be drawn; not to is ours.

    Attributes:
      share: of the weights that may move.
      masked_weights: `"frozen"`, or `"drift"`: the authors' code up to February 2026 masks nothing
        but the gradient, so that weight decay and its momentum still move the masked weights. That
        is not what the method promises.
    """

    order: Literal["sequential", "joint"] = "sequential"
    redraw: bool = True
    share: float = 0.5
    masked_weights: Literal["frozen", "drift"] = "frozen"

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("share",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")
        check_range(
            self, ("masked_weights",), lambda x: x in ("frozen", "drift"), "frozen or drift"
        )


def salun(
    model: Model,
    spec: DataSpec,
    config: SalUnConfig = SalUnConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build SalUn: `random_label` under the mask that `saliency_mask` finds on the forget set.

    BatchNorm: evaluation mode for the mask; then it normalises with the batch, and its statistics
    follow. Its scale and offset are weights like all others.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `SalUnConfig`; an epoch is a pass over the forget and the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.

    Raises:
      InputError: there is no wrong class to draw.
    """

    def mask(variables: Variables, data: UnlearnData) -> PyTree:
        return saliency_mask(model, variables, data.forget, config.share, config.batch_size)

    if config.masked_weights == "frozen":
        return random_label(model, spec, config, tx=tx, mask=mask)
    method = random_label(model, spec, config, tx=tx, mask=mask, update=_drift)
    return method._replace(invariants=method.invariants._replace(trainable_mask=None))


def _drift(tx, loss_fn: LossFn, variables: Variables, opt_state, *, trainable_mask: PyTree):
    """Mask the gradient and nothing else."""

    def masked_loss(params: PyTree):
        return loss_fn(
            jax.tree.map(
                lambda keep, x: jnp.where(keep, x, jax.lax.stop_gradient(x)), trainable_mask, params
            )
        )

    return descend(tx, masked_loss, variables, opt_state)


METHOD = Method(
    name="salun",
    summary="random labels that move only the weights most salient for the forget set",
    reference="Fan et al. 2024, arXiv 2310.12508",
    build=salun,
    config=SalUnConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "share": Choice((0.3, 0.5, 0.8)),
    },
)
