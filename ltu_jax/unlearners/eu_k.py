"""EU-k, exact unlearning of the last k layers: train only these, anew, on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from ltu_jax.types import DataSpec, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.cf_k import LastLayersConfig, last_layers_of, train_where, where
from ltu_jax.unlearners.gradient_method import State


@dataclass(frozen=True)
class EUkConfig(LastLayersConfig):
    """Options of EU-k, see `LastLayersConfig`.

    Ours: twice the epochs of CF-k at the rate at which `training.supervised` trains networks, as
    the layers start from nothing.
    """

    epochs: int = 20
    learning_rate: float = 0.05


def eu_k(
    model: Model,
    spec: DataSpec,
    config: EUkConfig = EUkConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build training of the last layers from fresh random weights on the accessible retain set.

    All other weights stay as they are, to the bit. BatchNorm normalises with the batch everywhere,
    but only the statistics of the last layers follow; these start anew too. The authors leave what
    normalises a layer as it was trained; here nothing of the last layers remains.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `EUkConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner; state and batch are those of `finetune`.
    """
    trainable_mask = last_layers_of(model, spec, config.layers)
    training = train_where(trainable_mask, model, spec, config, tx)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        init_key, key = jax.random.split(key)
        fresh = model.init(init_key, data.retain.inputs[:1])
        return training.prepare(key, where(trainable_mask, fresh, variables), data)

    return training._replace(
        prepare=prepare, invariants=training.invariants._replace(restarts=True)
    )


METHOD = Method(
    name="eu_k",
    summary="train the last layers anew on the accessible retain set",
    reference="Goel et al. 2022, arXiv 2201.06640",
    build=eu_k,
    config=EUkConfig(),
    space={
        "layers": Choice((1, 2, 3)),
        "learning_rate": LogUniform(3e-3, 3e-1),
        "epochs": Choice((10, 20)),
    },
)
