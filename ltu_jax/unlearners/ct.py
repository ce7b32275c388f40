"""Convolution transpose: turn every filter on its diagonal, then train on the retain set.

A solution of the NeurIPS 2023 unlearning challenge (5th of those that Deep Unlearn compares, there
`kgltop5`), and with masked small gradients the strongest of the 18 methods in that comparison. The
transposed filters keep norm, rank and scale of what was learned, but the features that they compute
are mirrored; repairing them on retain data alone leaves the forget set behind. Nothing is random
but the order of the examples, and the forget set is never looked at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax
import optax

import ltu_jax.unlearners.convolutions as convolutions
from ltu_jax.types import DataSpec, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from ltu_jax.unlearners.gradient_method import SGDConfig, State


@dataclass(frozen=True)
class CTConfig(SGDConfig):
    """Options of convolution transpose.

    All defaults are the challenge solution's, as xcadet/deepunlearn gives them: three epochs in
    batches of 64 at learning rate 0.001, momentum 0.9, weight decay 5e-4, cosine schedule (theirs
    moves by epochs, ours by steps). They suit the challenge's many retain images; Deep Unlearn
    searched learning rates from 1e-5 to 0.1 and up to a fifth of the epochs of training.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3


def ct(
    model: Model,
    spec: DataSpec,
    config: CTConfig = CTConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build the transposition of all convolution kernels and fine-tuning on the retain set.

    Only kernels as high as wide are transposed: of any other, the transpose would belong to
    another network. BatchNorm normalises with the batch, and its statistics follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `CTConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.

    Raises:
      InputError: the network has no kernel to transpose.
    """
    convolutions.require(model, spec, METHOD.name, is_transposable)
    tuning = finetune(model, spec, FineTuneConfig(**asdict(config)), tx=tx)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        turned = jax.tree.map(
            lambda leaf: leaf.swapaxes(0, 1) if is_transposable(leaf) else leaf, variables.params
        )
        return tuning.prepare(key, variables._replace(params=turned), data)

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
