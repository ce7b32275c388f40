"""Gradient ascent: climb the loss of the forget set, by all weights or the salient ones alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import SGDConfig, descend
from ltu_jax.unlearners.saliency import saliency_mask
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take


@dataclass(frozen=True)
class GradientAscentConfig(SGDConfig):
    """Options of gradient ascent.

    Epochs 5, learning rate 1e-4, momentum and weight decay are those of the Unlearn-Saliency
    scripts (Fan et al. 2024), whose step schedule never gets to a step within 5 epochs.

    Attributes:
      share: of the weights that may move: those on which the loss of the forget set depends most
        (see `saliency_mask`). 1 moves all, as plain gradient ascent does.
    """

    epochs: int = 5
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    share: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("share",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")


class GradientAscentState(NamedTuple):
    """What gradient ascent carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      mask: booleans like the parameters, which of them may move; None lets all.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    mask: PyTree | None


def gradient_ascent(
    model: Model,
    spec: DataSpec,
    config: GradientAscentConfig = GradientAscentConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build gradient ascent on the forget set; the retain set is not looked at.

    Steps are those of descent on the negated loss: weight decay still shrinks. BatchNorm normalises
    with the batch, and its statistics follow; the mask is found in evaluation mode.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `GradientAscentConfig`; an epoch is a pass over the forget set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner; a batch is the `Examples` of the step.
    """
    num_forget = spec.num_forget
    batch_size = min(config.batch_size, num_forget)
    num_steps = config.epochs * batches_per_pass(num_forget, batch_size)
    tx = tx or config.optimizer(num_steps)
    masked = config.share < 1

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> GradientAscentState:
        mask = None
        if masked:
            mask = saliency_mask(model, variables, data.forget, config.share, config.batch_size)
        return GradientAscentState(variables, tx.init(variables.params), key, mask)

    def sample(key: Key, t: jax.Array, state: GradientAscentState, data: UnlearnData) -> Examples:
        del key
        return take(data.forget, shuffled_rows(state.order_key, t, num_forget, batch_size))

    def step(
        key: Key, state: GradientAscentState, batch: Examples
    ) -> tuple[GradientAscentState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.inputs,
            lambda logits: -cross_entropy(logits, batch.labels),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(
            tx, loss_fn, state.variables, state.opt_state, trainable_mask=state.mask
        )
        return state._replace(variables=variables, opt_state=opt_state), {"forget_loss": -loss}

    invariants = Invariants(trainable_mask=(lambda state: state.mask) if masked else None)
    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps, invariants)


METHOD = Method(
    name="gradient_ascent",
    summary="climb the loss of the forget set",
    reference="Thudi et al. 2021, arXiv 2109.13398",
    build=gradient_ascent,
    config=GradientAscentConfig(),
    space={
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": Choice((5, 10)),
        "share": Choice((0.5, 1.0)),
    },
)
