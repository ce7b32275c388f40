"""Normalisation and augmentation of inputs, as pure functions for use inside `jax.jit`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ltu_jax.types import Array, Key


def normalise(
    inputs: Array, mean: Sequence[float] | None, std: Sequence[float] | None
) -> jax.Array:
    """Return `(inputs - mean) / std`; uint8 is divided by 255 first, other integers do not change.

    Args:
      inputs: `[..., C]`, uint8 or float; other integers are tokens.
      mean: one value or `C` values, in units of the inputs after that division; None is 0.
      std: one value or `C` values; None is 1.

    Returns:
      `[..., C]`, float32 for uint8 inputs, else the dtype of the inputs.
    """
    x = jnp.asarray(inputs)
    if x.dtype == jnp.uint8:
        x = x.astype(jnp.float32) / 255
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x
    axes = (1,) * (x.ndim - 1) + (-1,)  # strict settings of JAX allow no implicit axes
    if mean is not None:
        x = x - jnp.asarray(mean, x.dtype).reshape(axes)
    return x if std is None else x / jnp.asarray(std, x.dtype).reshape(axes)


def pad_crop_flip(key: Key, images: Array) -> jax.Array:
    """Shift each image by up to an eighth of its side, and flip half of them left to right.

    Each image is padded with zeros by `H // 8` and `W // 8` on each side, cropped to its size at a
    random offset and flipped with probability one half; for 32x32 images these are the usual four
    pixels (He et al. 2016, section 4.2).

    Args:
      key: of the offsets and flips.
      images: `[B, H, W, C]` of any dtype.

    Returns:
      `[B, H, W, C]` of the same dtype.
    """
    images = jnp.asarray(images)
    batch, height, width, _ = images.shape
    pad = (height // 8, width // 8)
    crop_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(crop_key, (batch, 2), 0, 2 * jnp.array(pad) + 1)
    flips = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))

    padded = jnp.pad(images, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    shape = images.shape[1:]
    cropped = jax.vmap(
        lambda image, offset: jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), shape)
    )(padded, offsets)
    return jnp.where(flips, cropped[:, :, ::-1], cropped)
