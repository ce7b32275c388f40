"""Residual networks for small images (He et al., 2016, arXiv 1512.03385)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from ltu_jax.models.normalisation import BatchNorm

_convolution = partial(nn.Conv, use_bias=False, kernel_init=nn.initializers.he_normal())


def _normalise(train: bool) -> BatchNorm:
    return BatchNorm(use_running_average=not train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 convolution if the shape changes."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, H / stride, W / stride, width]`."""
        hidden = _convolution(self.width, (3, 3), strides=self.stride)(inputs)
        hidden = nn.relu(_normalise(train)(hidden))
        hidden = _convolution(self.width, (3, 3))(hidden)
        hidden = _normalise(train)(hidden)
        shortcut = inputs
        if shortcut.shape != hidden.shape:
            shortcut = _convolution(self.width, (1, 1), strides=self.stride)(shortcut)
            shortcut = _normalise(train)(shortcut)
        return nn.relu(hidden + shortcut)


class ResNet(nn.Module):
    """3x3 stem, stages of basic blocks, mean over space, logits.

    Each stage but the first halves the image. The stem has stride 1 and no max-pool, which would
    discard most of a small image.
    """

    num_classes: int
    blocks: Sequence[int]
    widths: Sequence[int]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Map images `[B, H, W, C]` to logits `[B, num_classes]`."""
        hidden = _convolution(self.widths[0], (3, 3))(images)
        hidden = nn.relu(_normalise(train)(hidden))
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                hidden = BasicBlock(width, stride)(hidden, train)
        return nn.Dense(self.num_classes)(hidden.mean(axis=(1, 2)))


ResNet20 = partial(ResNet, blocks=(3, 3, 3), widths=(16, 32, 64))
ResNet18 = partial(ResNet, blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512))
