"""Columns of values as users have them: arrays of any library, missing and masked entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltu_jax.errors import InputError


def as_array(argument: str, values: Any) -> np.ndarray:
    """Return values of any array library, a data frame or a nested list as a NumPy array.

    Raises:
      InputError: it is not an array, or entries of it are masked.
    """
    if np.ma.is_masked(values):
        count = int(np.ma.count_masked(values))
        problem = f"has {count} masked {'entry' if count == 1 else 'entries'}"
        raise InputError(argument, problem, "fill them, or remove such rows")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(argument, f"is not an array ({reason})", "give an array") from error


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or another library's mark of a missing value.

    >>> [is_missing(value) for value in (None, float("nan"), np.datetime64("NaT"), 0, "")]
    [True, True, True, False, False]
    """
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # the comparison of pandas.NA has no truth value
        return np.ndim(value) == 0
