"""Small vision transformer (Dosovitskiy et al., 2021, arXiv 2010.11929)."""

import flax.linen as nn
import jax


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron, both with residual connections."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        """Map tokens `[B, T, D]` to tokens `[B, T, D]`."""
        width = tokens.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        mixed = nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(tokens))
        tokens = tokens + dropout(mixed)
        hidden = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(tokens)))
        return tokens + dropout(nn.Dense(width)(hidden))


class ViTTiny(nn.Module):
    """Encoder blocks over a grid of 8x8 patches, mean over tokens, logits.

    The grid does not depend on the image size (4x4 patches at 32x32, single pixels at 8x8), so the
    cost hardly grows with it. Sides that 8 does not divide are padded to whole patches.
    """

    num_classes: int
    dropout: float = 0.0
    depth: int = 4
    width: int = 192
    heads: int = 3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Map images `[B, H, W, C]` to logits `[B, num_classes]`."""
        patch = [-(-side // 8) for side in images.shape[1:3]]
        grid = nn.Conv(self.width, patch, strides=patch)(images)
        tokens = grid.reshape([grid.shape[0], -1, self.width])
        position = self.param("position", nn.initializers.normal(0.02), tokens.shape[1:])
        tokens = tokens + position
        for _ in range(self.depth):
            tokens = EncoderBlock(self.heads, self.dropout)(tokens, train)
        return nn.Dense(self.num_classes)(nn.LayerNorm()(tokens).mean(axis=1))
