"""Signs that a run of LTU did not do what it was meant to, read off what the run left.

Each sign has a number, a bound that sound runs stay within, and what to do about it.
`experiments/ablations/failure_signatures.py` provokes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ltu_jax.types import Array

MOST_REMOVED = 0.5  # share of each gradient that harmonisation may take away
LEAST_DIFFERENT = 1.02  # effective number of membership models


def share_removed(cosine: Array) -> np.ndarray:
    """Return the share of each gradient that two-way projection takes away, by their cosine."""
    conflict = np.minimum(np.asarray(cosine, float), 0.0)
    return 1.0 - np.sqrt(np.maximum(1.0 - conflict**2, 0.0))


def signs(history: Mapping[str, Array]) -> list[str]:
    """Return a sentence on each sign of failure in a run's history; none in a sound run.

    Args:
      history: by name what each step reported; names that a method does not report are passed over.
    """
    found = []
    if "cosine" in history:
        removed = float(np.median(share_removed(history["cosine"])))
        if removed > MOST_REMOVED:
            found.append(
                f"harmonisation took away {100 * removed:.0f} % of both gradients in half of the "
                "steps: remembering and forgetting ask for opposite things, and little of either "
                "is left; lower forget_weight, or protect one side (harmonize)"
            )
    if "effective_models" in history:
        number = float(np.mean(history["effective_models"]))
        if number < LEAST_DIFFERENT:
            found.append(
                f"the membership models amount to {number:.2f} different ones: support and query "
                "are the same task, and the forgetting branch has no gap to learn from; give them "
                "other features, widths and shares (membership)"
            )
    return found
