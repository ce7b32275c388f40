"""What attacks on single examples share: pools of reference models, and who may judge whom."""

from __future__ import annotations

import numpy as np

from ltu_jax.errors import InputError

Array = np.ndarray


def judges(groups: Array, size: int, *, halved: bool = False) -> tuple[Array, Array]:
    """Number 0, 1, ... of each model's group, `[M]`, and who judges a group, `[G, M]` of 0 and 1.

    These are the models of all other groups, or with `halved` of the others in the group's own half
    (see `half_of`). Sums over the judges of each model are `(judges @ values)[index]`.

    Raises:
      InputError: not one label for each model, or a group without another one.
    """
    if np.shape(groups) != (size,):
        raise InputError(f"groups has shape {np.shape(groups)}; give one label for each of {size}")
    names, index = np.unique(groups, return_inverse=True)
    least = 4 if halved else 2
    if len(names) < least:
        raise InputError(f"groups has {len(names)} distinct labels; give {least} or more")
    every = np.arange(len(names))
    outside = every[:, None] != index
    if halved:
        outside &= half_of(every)[:, None] == half_of(index)
    return index, outside.astype(np.float64)


def half_of(index: Array) -> Array:
    """Which half of the groups, 0 or 1, a group with this number belongs to."""
    return index % 2


def check_counts(counts: dict[str, Array], least: int) -> None:
    """Check that each example has enough references: `[n]` or `[G, n]` by side, "IN" or "OUT".

    Raises:
      InputError: some have fewer than `least`.
    """
    for side, count in counts.items():
        lacking = np.sum(np.atleast_2d(count < least).any(axis=0))
        if lacking:
            raise InputError(
                f"included leaves {lacking} examples with fewer than {least} {side} models; "
                "give more models, or leave those examples out"
            )


def check_pool(name: str, values: Array, included: Array) -> tuple[Array, Array]:
    """Values as finite float64 `[M, n]`, and `included` as booleans of the same shape.

    Raises:
      InputError: they are not.
    """
    values = check_finite(name, values, 2)
    return values, check_booleans("included", included, values.shape)


def check_booleans(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    """The argument `name` as booleans of that shape.

    Raises:
      InputError: it is not; 0 and 1 are refused, because their complement is no mask.
    """
    values = np.asarray(values)
    if values.dtype != bool or values.shape != tuple(shape):
        raise InputError(f"{name} is {values.dtype} {values.shape}; give booleans {tuple(shape)}")
    return values


def check_finite(name: str, values: Array, ndim: int) -> Array:
    """The argument `name` as float64 with `ndim` axes.

    Raises:
      InputError: it has other axes, is empty, or holds NaN or infinity.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != ndim or not values.size:
        raise InputError(f"{name} has shape {values.shape}; give {ndim} axes, none of them empty")
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity; give finite numbers")
    return values


def check_probabilities(name: str, values: Array, ndim: int) -> Array:
    """The argument `name` as float64 in [0, 1] with `ndim` axes.

    Raises:
      InputError: it is not.
    """
    values = check_finite(name, values, ndim)
    low, high = np.min(values), np.max(values)
    if low < 0 or high > 1 + 1e-6:  # float32 probabilities may exceed 1 by rounding
        raise InputError(f"{name} goes from {low} to {high}; give probabilities")
    return values
