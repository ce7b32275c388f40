"""Mistakes that data may hold but need not: empty classes, inputs of another scale, copies."""

from __future__ import annotations

import numpy as np

from ltu_jax.data.duplicates import warn_of_copies
from ltu_jax.data.labels import warn_of_empty_classes
from ltu_jax.errors import warn
from ltu_jax.types import Dataset, Split

LARGE, SMALL = 20.0, 0.01  # standard deviations of inputs that are far from 1
TYPICAL = 20.0  # median size of inputs that are far from 1
_SAMPLE = 256


def warn_of_mistakes(dataset: Dataset, split: Split, *, is_first: bool, own_scale: bool) -> None:
    """Warn of what may be a mistake in the data of a deletion.

    Args:
      dataset: of the deletion.
      split: of the deletion.
      is_first: whether no class can have been forgotten before.
      own_scale: whether the model was trained elsewhere and may scale its inputs itself.
    """
    if is_first:
        warn_of_empty_classes(np.asarray(dataset.train.labels), dataset.class_names)
    if not own_scale:
        warn_of_scale(dataset)
    warn_of_copies(dataset, split)


def warn_of_scale(dataset: Dataset) -> None:
    """Warn if the inputs that a network sees, after `mean` and `std`, are far from unit scale."""
    inputs = dataset.train.inputs
    if inputs.dtype not in (np.uint8, np.float32):
        return
    rows = np.unique(np.linspace(0, len(inputs) - 1, _SAMPLE).astype(int))
    seen = np.asarray(inputs[rows], np.float64) / (255 if inputs.dtype == np.uint8 else 1)
    seen = (seen - np.asarray(dataset.mean or 0.0)) / np.asarray(dataset.std or 1.0)
    spread, typical = float(seen.std()), float(np.median(np.abs(seen)))
    if spread > LARGE or typical > TYPICAL or 0 < spread < SMALL:
        warn(
            f"after `mean` and `std`, the inputs of the network have a standard deviation of "
            f"{spread:.2g} and a median size of {typical:.2g}; networks train badly far from 1, so "
            "scale the inputs, or give their `mean` and `std`"
        )
