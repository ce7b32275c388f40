"""Convolutions of images, in the form that the backend runs fast.

Accelerators have fast convolutions. On a CPU, XLA takes about twice as long for them as for the
same sums as matrix products, if there are 16 channels or more. There, such a convolution becomes
one product for a few images at a time: so few that what is gathered for it stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltu_jax.errors import InputError

Padding = str | Sequence[tuple[int, int]]

# Input channels, and values of an image, from which on products are faster on a CPU. A gradient
# through a gradient computes more of a block again, so there it takes larger convolutions.
_ONCE, _TWICE, _NEVER = (16, 0), (64, 2**13), (math.inf, 0)
# An image of so many output columns is large.
_LARGE_IMAGE = 16
# Input values of one block: what is gathered from them then stays in the cache.
_BLOCK_VALUES = 2**18

_least: ContextVar[tuple[float, int]] = ContextVar("least", default=_ONCE)


def conv(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    as_products: bool | None = None,
) -> jax.Array:
    """Convolve images with a kernel, as `lax.conv_general_dilated` does, up to rounding.

    All forms are made of plain operations, so every transformation of JAX applies to them.

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[kh, kw, C, D]`.
      strides: by rows and by columns.
      padding: `"SAME"`, `"VALID"`, or `(before, after)` for rows and for columns.
      as_products: whether to use matrix products; `None` decides by `prefers_products`.

    Returns:
      `[B, H', W', D]`.

    Raises:
      InputError: the shapes do not fit each other.
    """
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[3] != kernel.shape[2]:
        raise InputError(
            "conv: needs inputs [B, H, W, C] and a kernel [kh, kw, C, D], got shapes "
            f"{list(inputs.shape)} and {list(kernel.shape)}; use nn.Conv for other convolutions"
        )
    if as_products is None:
        as_products = prefers_products(inputs)
    if not as_products:
        return lax.conv_general_dilated(
            inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, padding)
    product = partial(_product, kernel=kernel, strides=tuple(strides))
    inputs = jnp.pad(inputs, [(0, 0), *padding, (0, 0)])
    size = len(inputs)
    block = _block(size, math.prod(inputs.shape[1:]))
    if block == size:
        return product(inputs)
    # Without the checkpoint the gathered columns of all blocks would be kept for the gradient.
    blocks = inputs.reshape(size // block, block, *inputs.shape[1:])
    outputs = lax.map(jax.checkpoint(product), blocks)
    return outputs.reshape(size, *outputs.shape[2:])


def prefers_products(inputs: jax.Array) -> bool:
    """Whether matrix products are faster on this backend for images `[B, H, W, C]`.

    Not over several devices: the loop over blocks would gather a batch that is split over them.
    """
    _, *image = inputs.shape
    channels, values = _least.get()
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return one_cpu and image[2] >= channels and math.prod(image) >= values


def differentiated_twice() -> AbstractContextManager[None]:
    """Return a context for passes whose gradient is differentiated again."""
    return _at_least(_TWICE)


def countable() -> AbstractContextManager[None]:
    """Return a context in which convolutions are traced as such.

    XLA counts the operations of a loop's body once. For functions that were not traced before:
    JAX keeps what it has traced.
    """
    return _at_least(_NEVER)


@contextmanager
def _at_least(bounds: tuple[float, int]) -> Iterator[None]:
    before = _least.set(max(_least.get(), bounds))
    try:
        yield
    finally:
        _least.reset(before)


class Conv(nn.Conv):
    """`nn.Conv` whose image convolutions go through `conv`; the same parameters, names and values.

    Dilated and grouped convolutions, and those of other than two dimensions, are `nn.Conv`'s own.
    """

    conv_general_dilated_cls: Callable[[], Callable] = lambda: _convolve


def _convolve(lhs, rhs, window_strides, padding, **options) -> jax.Array:
    """Take the arguments of `lax.conv_general_dilated` as `nn.Conv` gives them."""
    dilations = (*options["lhs_dilation"], *options["rhs_dilation"])
    plain = set(dilations) == {1} and options["feature_group_count"] == 1
    if plain and rhs.ndim == 4 and options["precision"] is None:
        return conv(lhs, rhs, window_strides, padding)
    return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def _block(size: int, values: int) -> int:
    """Return how many of `size` images of so many values make a block: a divisor of `size`."""
    most = max(1, min(size, round(_BLOCK_VALUES / values)))
    return max(block for block in range(1, most + 1) if size % block == 0)


def _product(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """Convolve padded images by one matrix product.

    Of large images only the kernel's columns are gathered, and its rows are added up afterwards:
    each pixel is then moved kh + kw times and not kh * kw times.
    """
    size, height, width, _ = inputs.shape
    rows, columns, _, features = kernel.shape
    high, wide = (height - rows) // strides[0] + 1, (width - columns) // strides[1] + 1
    gathered = _shifts(inputs, columns, wide, strides[1], axis=2)
    if wide < _LARGE_IMAGE:
        gathered = [row for each in gathered for row in _shifts(each, rows, high, strides[0], 1)]
        weights = kernel.swapaxes(0, 1).reshape(-1, features)
        return jnp.concatenate(gathered, axis=-1) @ weights
    weights = kernel.transpose(1, 2, 0, 3).reshape(-1, rows * features)
    by_row = (jnp.concatenate(gathered, axis=-1) @ weights).reshape(size, height, wide, rows, -1)
    return sum(_shifts(by_row[..., row, :], rows, high, strides[0], 1)[row] for row in range(rows))


def _shifts(array: jax.Array, count: int, length: int, stride: int, axis: int) -> list[jax.Array]:
    """Return `count` slices of so many entries along an axis, each beginning one entry later."""
    span = (length - 1) * stride + 1
    return [lax.slice_in_dim(array, i, i + span, stride, axis) for i in range(count)]
