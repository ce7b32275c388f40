r"""What an attack finds by chance when unlearning was exact.

Then the model is a retrained one, and a random forget set is exchangeable with test examples: no
attack does better than chance, and finite samples make a floor around it. Inside the floor a model
is statistically as good as a retrained one, for that attack. A forgotten class is not exchangeable
with the test set: there Retrain's own value is the target, and these floors say nothing.
"""

from __future__ import annotations

import numpy as np
import scipy


def auc_floor_band(n_forget: int, n_test: int, *, alpha: float = 0.05) -> tuple[float, float]:
    r"""Interval in percent that holds the AUC under exact unlearning with chance 1 - alpha.

    The Mann-Whitney statistic has variance $(n_f + n_t + 1) / (12 n_f n_t)$ in units of AUC, which
    is exact; its shape is taken as normal. Ties make it narrower, so the interval stays valid.

    >>> low, high = auc_floor_band(1000, 5000)
    >>> print(f"{low:.1f} {high:.1f}")
    48.0 52.0
    """
    deviation = np.sqrt((n_forget + n_test + 1) / (12 * n_forget * n_test))
    reach = float(scipy.stats.norm.isf(alpha / 2) * deviation)
    return 100 * max(0.0, 0.5 - reach), 100 * min(1.0, 0.5 + reach)


def ks_floor(n_forget: int, n_test: int, *, alpha: float = 0.05) -> float:
    r"""Percent that `attacks.ks_distance` exceeds with chance alpha at most under exact unlearning.

    From Kolmogorov's limit at $n_f n_t / (n_f + n_t)$; conservative for small sets. TPR - FPR is a
    difference of two empirical distribution functions, so the whole ROC curve lies within this of
    the diagonal with the same chance.
    """
    scale = np.sqrt((n_forget + n_test) / (n_forget * n_test))
    return 100 * min(1.0, float(scipy.stats.kstwobign.isf(alpha) * scale))
