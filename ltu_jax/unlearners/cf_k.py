"""CF-k, catastrophic forgetting of the last k layers: fine-tune only these on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from ltu_jax.errors import check_range
from ltu_jax.models.layers import last_layers
from ltu_jax.types import (
    DataSpec,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.finetune import FineTuneBatch, FineTuneConfig, finetune
from ltu_jax.unlearners.gradient_method import SGDConfig, State


@dataclass(frozen=True)
class LastLayersConfig(SGDConfig):
    """Options of a method that trains the last layers alone.

    The authors (shash42/Evaluating-Inexact-Unlearning) compare 1 to 3 layers and train them as long
    as a network that is trained anew, 62 epochs of warm restarts from the rate of training. The
    defaults are ours: the middle of the three, for as long and at the rate that `finetune` takes.

    Attributes:
      layers: how many of the last layers train: layers with a kernel, and what normalises them (see
        `models.layers.last_layers`). All do where there are less.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    layers: int = 2

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("layers",), lambda x: x >= 1, "a number of at least 1")


def cf_k(
    model: Model,
    spec: DataSpec,
    config: LastLayersConfig = LastLayersConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build fine-tuning of the last layers on the accessible retain set.

    All other weights stay as they are, to the bit. BatchNorm normalises with the batch everywhere,
    but only the statistics of the last layers follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `LastLayersConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner; state and batch are those of `finetune`.
    """
    trainable_mask = last_layers_of(model, spec, config.layers)
    return train_where(trainable_mask, model, spec, config, tx)


def last_layers_of(model: Model, spec: DataSpec, k: int) -> Variables:
    """Return booleans like the variables of `model`: what belongs to its last `k` layers."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    return last_layers(model, shapes, spec.inputs, k)


def train_where(
    trainable_mask: Variables,
    model: Model,
    spec: DataSpec,
    config: LastLayersConfig,
    tx: optax.GradientTransformation | None,
) -> Unlearner:
    """Return `finetune` of what `trainable_mask`, booleans like the variables, marks."""
    plain = FineTuneConfig(epochs=config.epochs, batch_size=config.batch_size)
    tx = tx or config.optimizer(finetune(model, spec, plain).num_steps)
    # Gradients of frozen weights are asked for by nobody, and so not computed.
    tx = optax.partition({True: tx, False: optax.set_to_zero()}, trainable_mask.params)
    everywhere = finetune(model, spec, plain, tx=tx)

    def step(key: Key, state: State, batch: FineTuneBatch) -> tuple[State, Info]:
        after, info = everywhere.step(key, state, batch)
        model_state = where(trainable_mask.state, after.variables.state, state.variables.state)
        return after._replace(variables=after.variables._replace(state=model_state)), info

    invariants = Invariants(
        trainable_mask=lambda state: trainable_mask.params,
        preserves_model_state=not any(jax.tree.leaves(trainable_mask.state)),
    )
    return everywhere._replace(step=step, invariants=invariants)


def where(chosen: PyTree, one: PyTree, other: PyTree) -> PyTree:
    """Return the leaves of `one` that are chosen, and those of `other` that are not."""
    return jax.tree.map(lambda choice, a, b: a if choice else b, chosen, one, other)


METHOD = Method(
    name="cf_k",
    summary="keep training only the last layers on the accessible retain set",
    reference="Goel et al. 2022, arXiv 2201.06640",
    build=cf_k,
    config=LastLayersConfig(),
    space={
        "layers": Choice((1, 2, 3)),
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
    },
)
