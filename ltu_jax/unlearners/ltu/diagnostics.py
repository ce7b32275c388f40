"""Failure diagnostics computed from a run's history.

Each diagnostic is a number with a bound that sound runs keep, and a remedy.
`experiments/ablations/failure_signatures.py` provokes the failures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ltu_jax.types import Array

MAX_REMOVED = 0.5  # share of each gradient that harmonisation may remove
MIN_EFFECTIVE_MODELS = 1.02  # effective number of membership models


def share_removed(cosine: Array) -> np.ndarray:
    r"""Return the share of each gradient that two-way projection removes, by their cosine.

    It is :math:`1 - \sqrt{1 - c^2}` for a cosine :math:`c < 0`, else 0.
    """
    conflict = np.minimum(np.asarray(cosine, float), 0.0)
    return 1.0 - np.sqrt(np.maximum(1.0 - conflict**2, 0.0))


def diagnose(history: Mapping[str, Array]) -> list[str]:
    """Return a sentence for each failure that a run's history shows; none for a sound run.

    Args:
      history: diagnostics of every step by name. Names that a method lacks are skipped.
    """
    failures = []
    if "cosine" in history:
        removed = float(np.median(share_removed(history["cosine"])))
        if removed > MAX_REMOVED:
            failures.append(
                f"harmonisation removed {100 * removed:.0f} % of both gradients in half of the "
                "steps: remembering and forgetting conflict, and little of either remains; lower "
                "forget_weight, or protect one gradient (harmonize)"
            )
    if "effective_models" in history:
        number = float(np.mean(history["effective_models"]))
        if number < MIN_EFFECTIVE_MODELS:
            failures.append(
                f"the effective number of membership models is {number:.2f}: support and query are "
                "the same task, so the forgetting branch has nothing to generalise over; give the "
                "models other features, widths and shares (objective)"
            )
    return failures
