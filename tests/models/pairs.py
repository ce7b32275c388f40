"""One small model in Linen and in NNX, with interchangeable weights."""

import flax.linen as nn
from flax import nnx

from ltu_jax.models import from_linen, from_nnx
from ltu_jax.types import Model, Variables

WIDTH = 8


class LinenNet(nn.Module):
    """Convolution, BatchNorm, ReLU, mean pool, dropout, logits."""

    num_classes: int
    dropout_rate: float

    @nn.compact
    def __call__(self, images, train: bool):
        hidden = nn.Conv(WIDTH, (3, 3), name="conv")(images)
        hidden = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(hidden)
        hidden = nn.relu(hidden).mean(axis=(1, 2))
        hidden = nn.Dropout(self.dropout_rate, deterministic=not train)(hidden)
        return nn.Dense(self.num_classes, name="head")(hidden)


class NNXNet(nnx.Module):
    """The same layers under the same names."""

    def __init__(self, channels: int, num_classes: int, dropout_rate: float, rngs: nnx.Rngs):
        self.conv = nnx.Conv(channels, WIDTH, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)
        self.head = nnx.Linear(WIDTH, num_classes, rngs=rngs)

    def __call__(self, images):
        hidden = nnx.relu(self.norm(self.conv(images))).mean(axis=(1, 2))
        return self.head(self.dropout(hidden))


def linen_and_nnx(
    channels: int = 1, num_classes: int = 3, dropout_rate: float = 0.0
) -> tuple[Model, Model]:
    """Return both networks; the Linen one's weights go to the other by `to_nnx`.

    Their dropout masks differ, so compare training passes at `dropout_rate` 0.
    """
    linen = from_linen(LinenNet(num_classes, dropout_rate), name="linen")
    in_nnx = from_nnx(lambda rngs: NNXNet(channels, num_classes, dropout_rate, rngs), name="nnx")
    return linen, in_nnx


def to_nnx(variables: Variables) -> Variables:
    """Return the Linen network's variables as the NNX network's."""
    return Variables(variables.params, variables.state["batch_stats"])
