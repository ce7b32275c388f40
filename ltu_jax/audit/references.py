"""Reference models of per-example attacks: groups, halves and sufficient counts."""

from __future__ import annotations

import numpy as np

from ltu_jax.audit.checks import check_booleans, check_finite
from ltu_jax.errors import InputError
from ltu_jax.types import Array


def reference_masks(
    groups: Array, size: int, *, halved: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's group index `[M]` and the reference models of each group `[G, M]`.

    The references, 1.0 in the mask and else 0.0, are the models of all other groups; with `halved`
    those of the other groups in the same half, see `half_of`. Sums over the references of each
    model are `(mask @ values)[index]`.

    Raises:
      InputError: not one label per model, or too few groups.
    """
    if np.shape(groups) != (size,):
        raise InputError(
            "groups", f"has shape {np.shape(groups)}", f"give {size} labels, one a model"
        )
    names, index = np.unique(groups, return_inverse=True)
    least = 4 if halved else 2
    if len(names) < least:
        raise InputError("groups", f"has {len(names)} distinct labels", f"give {least} or more")
    every = np.arange(len(names))
    outside = every[:, None] != index
    if halved:
        outside &= half_of(every)[:, None] == half_of(index)
    return index, outside.astype(np.float64)


def half_of(index: np.ndarray) -> np.ndarray:
    """Return the half of the groups, 0 or 1, that a group index belongs to."""
    return index % 2


def check_counts(counts: dict[str, np.ndarray], least: int) -> None:
    """Check that each example has enough references, `[n]` or `[G, n]` by side, "IN" or "OUT".

    Raises:
      InputError: some have fewer than `least`.
    """
    for side, count in counts.items():
        lacking = np.sum(np.atleast_2d(count < least).any(axis=0))
        if lacking:
            found = f"leaves {lacking} examples with fewer than {least} {side} models"
            raise InputError("included", found, "give more models, or leave those examples out")


def check_ensemble(name: str, values: Array, included: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return values as finite float64 `[M, n]` and `included` as booleans of the same shape.

    Raises:
      InputError: they are not.
    """
    values = check_finite(name, values, 2)
    return values, check_booleans("included", included, values.shape)
