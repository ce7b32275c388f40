"""CF-k, catastrophic forgetting of the last k layers: fine-tune only these on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from ltu_jax.models.layers import last_layers
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveFloat, PositiveInt
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    mean_loss,
)
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class LastLayersConfig(SGDConfig):
    """Options of a method that trains the last layers only.

    The authors compare 1 to 3 layers and train them as long as a model from scratch, 62 epochs of
    warm restarts. The defaults are ours: 2 layers, epochs and rate of `finetune`.

    Attributes:
      layers: number of trained layers, counted from the end: layers with a kernel and their
        normalisation, see `models.layers.last_layers`; all if there are fewer.
    """

    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 0.01
    layers: PositiveInt = 2


def cf_k(
    model: Model,
    spec: DataSpec,
    config: LastLayersConfig = LastLayersConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build fine-tuning of the last layers on the accessible retain set.

    With a mask m that is 1 in the last k layers,

    .. math:: \theta \leftarrow \theta - \eta\, m \odot \nabla L_{retain}(\theta).

    All other weights keep their bits. Only the BatchNorm statistics of the last layers are updated.

    Returns:
      The unlearner; `info` holds the `loss`.

    Example:
      >>> from ltu_jax.models import build
      >>> spec = DataSpec(50, 1000, 50, 10, jax.ShapeDtypeStruct((1, 8), "float32"))
      >>> unlearner = cf_k(build("mlp", num_classes=10), spec, LastLayersConfig(layers=1))
      >>> jax.tree.reduce(lambda x, y: x + y, unlearner.invariants.trainable_mask(None))
      2

    References:
      Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning", 2022,
      https://arxiv.org/abs/2201.06640
    """
    return train_where(last_layers_of(model, spec, config.layers), model, spec, config, tx)


def last_layers_of(model: Model, spec: DataSpec, k: int) -> Variables:
    """Return booleans like the variables of `model`: what belongs to its last `k` layers."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    return last_layers(model, shapes, spec.inputs, k)


def train_where(
    trained: Variables,
    model: Model,
    spec: DataSpec,
    config: LastLayersConfig,
    tx: optax.GradientTransformation | None,
) -> Unlearner:
    """Return training on the retain set of what `trained`, booleans like the variables, marks."""
    epochs = Epochs(spec.num_retain, config.batch_size, config.epochs)
    tx = tx or config.optimizer(epochs.num_steps)
    # XLA drops the gradients of frozen weights, which nothing uses.
    tx = optax.partition({True: tx, False: optax.set_to_zero()}, trained.params)
    full_loss = mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        return take(data.retain, epochs.rows(state.order_key, t))

    def loss(key: Key, params: PyTree, state: State, batch: Examples) -> tuple[jax.Array, PyTree]:
        value, model_state = full_loss(key, params, state, batch)
        return value, where(trained.state, model_state, state.variables.state)

    invariants = Invariants(
        trainable_mask=lambda state: trained.params,
        preserves_model_state=not any(jax.tree.leaves(trained.state)),
    )
    return gradient_method(tx, epochs.num_steps, sample=sample, loss=loss, invariants=invariants)


def where(chosen: PyTree, one: PyTree, other: PyTree) -> PyTree:
    """Return the leaves of `one` that are chosen, and those of `other` that are not."""
    return jax.tree.map(lambda choice, a, b: a if choice else b, chosen, one, other)


METHOD = Method(
    name="cf_k",
    summary="keep training only the last layers on the accessible retain set",
    reference="Goel et al. 2022, arXiv 2201.06640",
    build=cf_k,
    traced=SGD_NUMBERS,
    config=LastLayersConfig(),
    space={
        "layers": Choice((1, 2, 3)),
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
    },
)
