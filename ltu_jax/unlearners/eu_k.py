"""EU-k, exact unlearning of the last k layers: retrain only these on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from ltu_jax.types import DataSpec, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveFloat, PositiveInt
from ltu_jax.unlearners.cf_k import LastLayersConfig, last_layers_of, train_where, where
from ltu_jax.unlearners.gradient_method import SGD_NUMBERS, State


@dataclass(frozen=True)
class EUkConfig(LastLayersConfig):
    """Options of EU-k, see `LastLayersConfig`.

    Ours: twice the epochs of CF-k, and the rate of supervised training.
    """

    epochs: PositiveInt = 20
    learning_rate: PositiveFloat = 0.05


def eu_k(
    model: Model,
    spec: DataSpec,
    config: EUkConfig = EUkConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build training of the last layers from random weights on the accessible retain set.

    The update is that of `cf_k`, :math:`\theta \leftarrow \theta - \eta\, m \odot \nabla
    L_{retain}`, from new random values where m is 1. All other weights keep their bits. The last
    layers' BatchNorm statistics are reset too; the authors keep the trained normalisation.

    Returns:
      The unlearner; `info` holds the `loss`.

    Example:
      >>> from ltu_jax.models import build
      >>> spec = DataSpec(50, 1000, 50, 10, jax.ShapeDtypeStruct((1, 8), "float32"))
      >>> unlearner = eu_k(build("mlp", num_classes=10), spec)
      >>> unlearner.num_steps, unlearner.invariants.restarts
      (160, True)

    References:
      Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning", 2022,
      https://arxiv.org/abs/2201.06640
    """
    trained = last_layers_of(model, spec, config.layers)
    training = train_where(trained, model, spec, config, tx)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        init_key, key = jax.random.split(key)
        initial = model.init(init_key, data.retain.inputs[:1])
        return training.prepare(key, where(trained, initial, variables), data)

    invariants = training.invariants._replace(restarts=True)
    return training._replace(prepare=prepare, invariants=invariants)


METHOD = Method(
    name="eu_k",
    summary="retrain the last layers from random weights on the accessible retain set",
    reference="Goel et al. 2022, arXiv 2201.06640",
    build=eu_k,
    traced=SGD_NUMBERS,
    config=EUkConfig(),
    space={
        "layers": Choice((1, 2, 3)),
        "learning_rate": LogUniform(3e-3, 3e-1),
        "epochs": Choice((10, 20)),
    },
)
