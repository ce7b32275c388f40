"""Convolution transpose: transpose every square filter, then train on the retain set."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax
import optax

from ltu_jax.types import DataSpec, Key, Model, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners import convolutions
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveFloat, PositiveInt
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from ltu_jax.unlearners.gradient_method import SGDConfig


@dataclass(frozen=True)
class CTConfig(SGDConfig):
    """Options of convolution transpose.

    All defaults are the challenge solution's, from xcadet/deepunlearn; its cosine schedule moves by
    epochs, ours by steps. They suit the challenge's many retain images. Cadet et al. searched
    learning rates from 1e-5 to 0.1 and up to a fifth of the epochs of training.
    """

    epochs: PositiveInt = 3
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3


def ct(
    model: Model,
    spec: DataSpec,
    config: CTConfig = CTConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build the transposition of all square convolution kernels and fine-tuning.

    .. math:: W_{hwio} \leftarrow W_{whio}

    before the first step. The filters keep their norm, rank and scale, but compute mirrored
    features; training on the retain set repairs them for the retain set only. The transpose of
    other kernels would not fit the model. The method never reads the forget set. A solution of the
    NeurIPS 2023 challenge, `kgltop5` in Cadet et al. and with `msg` the strongest of 18 there.

    Returns:
      The unlearner; `info` holds the `loss`.

    Raises:
      InputError: the model has no kernel to transpose.

    Example:
      >>> from ltu_jax.models import build
      >>> spec = DataSpec(100, 1000, 100, 10, jax.ShapeDtypeStruct((1, 32, 32, 3), "uint8"))
      >>> ct(build("cnn", num_classes=10), spec).num_steps
      48

    References:
      Cadet et al., "Deep Unlearn: Benchmarking Machine Unlearning", 2024,
      https://arxiv.org/abs/2410.01276
    """
    convolutions.require(model, spec, METHOD.name, is_transposable)
    tuning = finetune(model, spec, FineTuneConfig(**asdict(config)), tx=tx)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> PyTree:
        transposed = jax.tree.map(
            lambda leaf: leaf.swapaxes(0, 1) if is_transposable(leaf) else leaf, variables.params
        )
        return tuning.prepare(key, variables._replace(params=transposed), data)

    return tuning._replace(prepare=prepare)


def is_transposable(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether a parameter is a convolution kernel `[H, W, in, out]` with H = W > 1."""
    return convolutions.is_kernel(leaf) and leaf.shape[0] == leaf.shape[1] > 1


METHOD = Method(
    name="ct",
    summary="transpose the convolution kernels, then train on the accessible retain set",
    reference="NeurIPS 2023 unlearning challenge; Cadet et al. 2024, arXiv 2410.01276",
    build=ct,
    config=CTConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
    },
)
