"""Which parameters are convolution kernels, for the methods that are about nothing else.

A vision transformer has a single one, its patch embedding: there these methods do next to nothing.
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
    """Raise `InputError` unless some parameter of `model` fits; computes nothing.

    Without a kernel to act on, a method of this kind would be plain fine-tuning under its name.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs).params
    if not any(fits(leaf) for leaf in jax.tree.leaves(shapes)):
        raise InputError(
            f"--method {method}: network {model.name} has no convolution kernel that the method "
            "can act on; choose a convolutional network or another method"
        )
