"""Outputs of a model that are not the logits that losses and attacks expect."""

from __future__ import annotations

import numpy as np

from ltu_jax.errors import warn
from ltu_jax.types import Array


def warn_of_probabilities(outputs: Array, *, is_trained: bool) -> None:
    """Warn if outputs `[B, C]` look like probabilities instead of logits.

    Args:
      outputs: of a model on some examples.
      is_trained: whether outputs between 0 and 1 can hardly be chance.
    """
    values = np.asarray(outputs, np.float32)
    tolerance = 1e-3 if np.asarray(outputs).dtype.itemsize > 2 else 2e-2
    if (values >= 0).all() and (np.abs(values.sum(-1) - 1) < tolerance).all():
        warn(
            "the outputs of the network look like probabilities: none is negative and every row "
            "sums to 1; give logits, or the logarithms of the probabilities"
        )
    elif is_trained and values.any() and ((values >= 0) & (values <= 1)).all():
        warn(
            "the outputs of the network are all between 0 and 1, as those of a sigmoid; give "
            "logits, one per class"
        )
