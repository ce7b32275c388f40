"""Single operations of a ResNet's SGD step in XLA and in PyTorch: where XLA:CPU is the limit.

python -m experiments.performance.operations
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.performance.timing import Way, interleave, median, ratios
from ltu_jax.models.normalisation import column_sum
from ltu_jax.training.compilation import jit


class Layer(NamedTuple):
    """A 3x3 convolution of stride 1, with as many channels in as out.

    Attributes:
      batch: number of images.
      side: pixels.
      channels: of inputs and outputs.
    """

    batch: int
    side: int
    channels: int


# The stages of resnet20, the first and the last of resnet18.
LAYERS = (Layer(64, 32, 16), Layer(64, 16, 32), Layer(64, 8, 64), Layer(16, 32, 64))
LAYERS += (Layer(16, 4, 512),)


def operations(threads: int, repeats: int, layers: tuple[Layer, ...] = LAYERS) -> dict[str, Any]:
    """Return the times of operations of each layer, and PyTorch's over XLA's.

    Args:
      threads: of PyTorch; XLA takes all cores.
      repeats: rounds in which all ways are timed.
      layers: see `Layer`.
    """
    import torch

    torch.set_num_threads(threads)
    rows = {}
    for layer in layers:
        ours, theirs = xla_ways(layer), torch_ways(layer)
        seconds = interleave(
            {f"{side} {name}": way for side, ways in (("xla", ours), ("torch", theirs))
             for name, way in ways.items()},
            repeats,
        )  # fmt: skip
        for name in ours:
            peer = name if name in theirs else "sum"
            rows[f"{layer.channels} channels, {layer.side}x{layer.side} pixels, {name}"] = {
                "xla_seconds": median(seconds, f"xla {name}"),
                "torch_seconds": median(seconds, f"torch {peer}"),
                "torch_over_xla": ratios(seconds, f"torch {peer}", f"xla {name}"),
            }
    return rows


def arrays(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return images `[B, H, W, C]` and a kernel `[3, 3, C, C]`."""
    rng, channels = np.random.default_rng(0), layer.channels
    shape = (layer.batch, layer.side, layer.side, channels)
    images = rng.standard_normal(shape, np.float32)
    return images, rng.standard_normal((3, 3, channels, channels), np.float32) / 10


def xla_ways(layer: Layer) -> dict[str, Way]:
    """Return the operations by XLA, with the library's compiler options."""
    images, kernel = map(jnp.asarray, arrays(layer))

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )

    def of_images(images: jax.Array, kernel: jax.Array) -> jax.Array:
        (gradient,) = jax.linear_transpose(lambda x: convolve(x, kernel), images)(images)
        return gradient

    def of_kernel(images: jax.Array, kernel: jax.Array) -> jax.Array:
        (gradient,) = jax.linear_transpose(lambda x: convolve(images, x), kernel)(images)
        return gradient

    functions: dict[str, Callable] = {
        "convolution": convolve,
        "gradient of its inputs": of_images,
        "gradient of its kernel": of_kernel,
        "sum": lambda images, kernel: images.sum((0, 1, 2)),
        "sum as a product": lambda images, kernel: column_sum(images.reshape(-1, layer.channels)),
    }
    programs = {
        name: jit(function, keep_unused=True).lower(images, kernel).compile()
        for name, function in functions.items()
    }
    return {
        name: partial(lambda program: jax.block_until_ready(program(images, kernel)), program)
        for name, program in programs.items()
    }


def torch_ways(layer: Layer) -> dict[str, Way]:
    """Return the operations by PyTorch, channels last in memory."""
    import torch

    images, kernel = map(torch.from_numpy, arrays(layer))
    images = images.permute(0, 3, 1, 2)
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def backward(*wanted: bool) -> Way:
        size, one = [1, 1], 1
        return lambda: torch.ops.aten.convolution_backward(
            images, images, kernel, None, size, size, size, False, [0, 0], one, [*wanted, False]
        )

    return {
        "convolution": lambda: torch.nn.functional.conv2d(images, kernel, None, 1, 1),
        "gradient of its inputs": backward(True, False),
        "gradient of its kernel": backward(False, True),
        "sum": lambda: images.sum((0, 2, 3)),
    }


if __name__ == "__main__":
    print(json.dumps(operations(threads=2, repeats=7), indent=1))
