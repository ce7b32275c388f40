"""Fine-tuning: go on training on the retain set and hope that the forget set fades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import distilled_cross_entropy
from ltu_jax.training.supervised import predict
from ltu_jax.types import DataSpec, Examples, Info, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import SGDConfig, descend
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take


@dataclass(frozen=True)
class FineTuneConfig(SGDConfig):
    """Options of fine-tuning.

    Epochs 10 and weight decay are those of the Unlearn-Saliency scripts (Fan et al. 2024), whose
    learning rate 0.01 is also their FT default; the cosine schedule is ours.

    Attributes:
      distill: share of the loss that is KL to the original model's outputs.
      temperature: of that KL.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    distill: float = 0.0
    temperature: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("distill",), lambda x: 0 <= x <= 1, "a share from 0 to 1")
        check_range(self, ("temperature",), lambda x: x > 0, "a number above 0")


class FineTuneState(NamedTuple):
    """What fine-tuning carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      teacher: `[n, C]` logits of the original on the retain set; None without distillation.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    teacher: jax.Array | None


class FineTuneBatch(NamedTuple):
    """Retain examples `[B]` and the original's logits for them, `[B, C]` or None."""

    examples: Examples
    teacher: jax.Array | None


def finetune(
    model: Model,
    spec: DataSpec,
    config: FineTuneConfig = FineTuneConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build fine-tuning on the accessible retain set.

    BatchNorm normalises with the batch, and its statistics follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `FineTuneConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.
    """
    num_retain = spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    num_steps = config.epochs * batches_per_pass(num_retain, batch_size)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> FineTuneState:
        teacher = predict(model, variables, data.retain.inputs) if config.distill else None
        return FineTuneState(variables, tx.init(variables.params), key, teacher)

    def sample(key: Key, t: jax.Array, state: FineTuneState, data: UnlearnData) -> FineTuneBatch:
        del key
        rows = shuffled_rows(state.order_key, t, num_retain, batch_size)
        return take(FineTuneBatch(data.retain, state.teacher), rows)

    def step(key: Key, state: FineTuneState, batch: FineTuneBatch) -> tuple[FineTuneState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.examples.inputs,
            lambda logits: distilled_cross_entropy(
                logits, batch.examples.labels, batch.teacher, config.distill, config.temperature
            ),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


METHOD = Method(
    name="finetune",
    summary="keep training on the accessible retain set",
    reference="Golatkar et al. 2020, arXiv 1911.04933",
    build=finetune,
    config=FineTuneConfig(),
    space={
        "learning_rate": LogUniform(5e-3, 2e-1),
        "epochs": Choice((5, 10)),
        "distill": Choice((0.0, 0.9)),
    },
)
