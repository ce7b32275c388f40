"""Checks of arguments that the audit's statistics share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.types import Array


def check(fits: Any, argument: str, value: Any, remedy: str) -> None:
    """Raise `InputError` unless `fits`.

    >>> check(False, "draws", 0, "1 or more")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: draws: is 0; give 1 or more
    """
    if not fits:
        raise InputError(argument, f"is {value}", f"give {remedy}")


def check_levels(**levels: float) -> None:
    """Raise `InputError` unless every named number is strictly between 0 and 1."""
    for name, level in levels.items():
        check(0 < level < 1, name, level, "a number between 0 and 1")


def check_delta(delta: float) -> None:
    """Raise `InputError` unless delta is in [0, 1)."""
    check(0 <= delta < 1, "delta", delta, "a probability, 0 or more and below 1")


def check_scores(argument: str, values: Array, least: int = 1) -> np.ndarray:
    """Return scores as float64 `[N]`; infinite scores are allowed.

    Raises:
      InputError: not one axis, fewer than `least` scores, or NaN.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) < least:
        raise InputError(argument, f"has shape {scores.shape}", f"give [N], N of {least} or more")
    check_count(np.isnan(scores).sum(), argument, "NaN", "give a number for each example")
    return scores


def check_count(count: Any, argument: str, what: str, remedy: str) -> None:
    """Raise `InputError` if a count of faulty values is above 0."""
    if count:
        raise InputError(argument, f"has {count} {what}", remedy)


def check_finite(argument: str, values: Array, ndim: int) -> np.ndarray:
    """Return values as float64 with `ndim` axes.

    Raises:
      InputError: another number of axes, no values, NaN or infinity.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != ndim or not array.size:
        raise InputError(argument, f"has shape {array.shape}", f"give {ndim} axes, none empty")
    if not np.isfinite(array).all():
        raise InputError(argument, "holds NaN or infinity", "give finite numbers")
    return array


def check_probabilities(argument: str, values: Array, ndim: int) -> np.ndarray:
    """Return values as float64 in [0, 1] with `ndim` axes.

    Raises:
      InputError: as `check_finite`, or a value outside [0, 1].
    """
    array = check_finite(argument, values, ndim)
    low, high = np.min(array), np.max(array)
    if low < 0 or high > 1 + 1e-6:  # float32 probabilities may exceed 1 by rounding
        raise InputError(argument, f"ranges from {low} to {high}", "give probabilities")
    return array


def check_booleans(argument: str, values: Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return values as booleans of that shape.

    Raises:
      InputError: another shape or type; the complement of 0 and 1 would not be a mask.
    """
    array = np.asarray(values)
    if array.dtype != bool or array.shape != tuple(shape):
        found = f"is {array.dtype} of shape {array.shape}"
        raise InputError(argument, found, f"give booleans of shape {tuple(shape)}")
    return array


def check_labelled(argument: str, logits: Array, labels: Array, least: int = 1) -> None:
    """Check finite logits `[N, C]` and labels `[N]` from 0 to C - 1.

    Raises:
      InputError: they are not, or N is below `least`.
    """
    shape = np.shape(logits)
    if len(shape) != 2 or np.shape(labels) != shape[:1] or shape[0] < least:
        found = f"has logits of shape {shape} and labels of shape {np.shape(labels)}"
        raise InputError(argument, found, f"give [N, C] and [N], N of {least} or more")
    if not np.isfinite(logits).all():
        raise InputError(argument, "has logits with NaN or infinity", "give finite numbers")
    low, high = np.min(labels), np.max(labels)
    if low < 0 or high >= shape[1]:
        found = f"has labels from {low} to {high}"
        raise InputError(argument, found, f"give classes from 0 to {shape[1] - 1}")
