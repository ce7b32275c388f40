"""Convolution kernels among the parameters, for methods that act on nothing else.

A vision transformer has only one, its patch embedding, so these methods hardly change it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from ltu_jax.errors import InputError
from ltu_jax.types import DataSpec, Model


def is_kernel(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether a parameter is the kernel of an image convolution, `[H, W, in, out]`."""
    return len(leaf.shape) == 4


def require(
    model: Model,
    spec: DataSpec,
    method: str,
    fits: Callable[[jax.ShapeDtypeStruct], bool] = is_kernel,
) -> None:
    """Raise `InputError` unless some parameter of `model` fits; the method would be fine-tuning."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs).params
    if not any(fits(leaf) for leaf in jax.tree.leaves(shapes)):
        raise InputError(
            "method",
            f"{method} needs a convolution kernel to act on; model {model.name} has none",
            "choose a convolutional model or another method",
        )
