"""Seeded draws of the parts of a split, and checks of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltu_jax.errors import InputError, short

# Each part of a split has its own random stream, so that a changed option changes one part only.
FORGET, ACCESSIBLE, VALIDATION, ATTACK = range(4)


def rng(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of a part of a split."""
    return np.random.default_rng([checked_seed(seed), stream])


def as_fraction(value: Any, argument: str, *, closed: bool = False) -> float:
    """Return `value` as a float in (0, 1), or in (0, 1] if `closed`."""
    try:
        fraction = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 < fraction < 1 and not (closed and fraction == 1):
        interval = "(0, 1]" if closed else "(0, 1)"
        raise InputError(argument, f"is {short(value)}", f"give a fraction in {interval}")
    return fraction


def checked_seed(seed: Any) -> int:
    """Return `seed` as an integer of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError("seed", f"is {short(seed)}", "give an integer of at least 0")
    return int(seed)


def stratified(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """Return sorted positions of a random `size`, divided among classes by largest remainder."""
    classes, counts = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(counts * size, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    picked = [
        rng.permutation(np.flatnonzero(labels == c))[:n]
        for c, n in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(picked))
