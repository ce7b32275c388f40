"""Multi-layer perceptron for inputs of any shape."""

from collections.abc import Sequence

import flax.linen as nn
import jax

he_normal = nn.initializers.he_normal()


class MLP(nn.Module):
    """Flattened inputs, ReLU layers of `widths`, logits; no normalisation."""

    num_classes: int
    widths: Sequence[int] = (128, 128)

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs `[B, ...]` to logits `[B, C]`."""
        hidden = inputs.reshape([inputs.shape[0], -1])
        for width in self.widths:
            hidden = nn.relu(nn.Dense(width, kernel_init=he_normal)(hidden))
        return nn.Dense(self.num_classes)(hidden)
