r"""Null distributions of attacks under exact unlearning, and Holm's correction.

After exact unlearning of a random forget set, forget and test examples are exchangeable, and no
attack has an advantage beyond sampling noise. Inside these intervals an attack does not distinguish
the model from a retrained one. A forgotten class is not exchangeable with the test set, and nobody
can see from a list of ids whether it is a random draw. `retrained_auc_band` therefore takes its
interval from two models that were retrained on the request itself; reports use no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from ltu_jax.audit.checks import check, check_levels
from ltu_jax.audit.roc import auc_difference_error, roc_auc
from ltu_jax.errors import InputError
from ltu_jax.types import Array

# Up to this many examples in total the null distribution is computed exactly (half a second).
EXACT_SIZE = 2000


def auc_floor_band(n_forget: int, n_test: int, *, alpha: float = 0.05) -> tuple[float, float]:
    r"""Return the 1 - alpha interval, in percent, of the AUC under exact unlearning.

    Normal approximation with the exact variance of the Mann-Whitney statistic,
    $(n_f + n_t + 1) / (12 n_f n_t)$ in units of AUC. Ties reduce the variance, so the interval
    remains valid.

    >>> low, high = auc_floor_band(1000, 5000)
    >>> print(f"{low:.1f} {high:.1f}")
    48.0 52.0
    """
    deviation = np.sqrt((n_forget + n_test + 1) / (12 * n_forget * n_test))
    reach = float(scipy.stats.norm.isf(alpha / 2) * deviation)
    return 100 * max(0.0, 0.5 - reach), 100 * min(1.0, 0.5 + reach)


def retrained_auc_band(
    first: tuple[Array, Array], second: tuple[Array, Array], *, alpha: float = 0.05
) -> tuple[float, float]:
    r"""Return the interval, in percent, that two retrained models span for the AUC of an attack.

    It reaches from the smaller to the larger AUC, widened on both sides by their difference or, if
    that is larger, its 1 - alpha half-width over examples (DeLong). The half-width is at least
    $1 - (\alpha/2)^{1/n}$ with the smaller sample's size n: an effect on a smaller share of the
    examples may be absent from the sample. The spread over training seeds is known from two models
    only: with so many examples that it dominates, up to a third of retrained models are outside.

    Args:
      first: the attack's scores `[P]` of forget and `[N]` of test examples on one retrained model.
      second: the same on the other, in the same order.
      alpha: level of the half-width.

    >>> low, high = retrained_auc_band(([3, 1], [2, 0]), ([3, 1], [2, 0]))
    >>> print(f"{low:.1f} {high:.1f}")
    0.0 100.0
    """
    check_levels(alpha=alpha)
    aucs = [roc_auc(*scores) for scores in (first, second)]
    size = min(map(len, first))
    reach = max(abs(aucs[0] - aucs[1]), 1 - (alpha / 2) ** (1 / size))
    if size > 1:
        error = auc_difference_error(first, second)
        reach = max(reach, float(scipy.stats.norm.isf(alpha / 2) * error))
    return 100 * max(0.0, min(aucs) - reach), 100 * min(1.0, max(aucs) + reach)


def ks_floor(n_forget: int, n_test: int, *, alpha: float = 0.05) -> float:
    r"""Return the 1 - alpha quantile, in percent, of `ks_distance` under exact unlearning.

    Kolmogorov's limit at $n_f n_t / (n_f + n_t)$, conservative for small sets. TPR - FPR is a
    difference of two empirical distribution functions, so the whole ROC curve lies within this
    distance of the diagonal with probability 1 - alpha.
    """
    scale = np.sqrt((n_forget + n_test) / (n_forget * n_test))
    return 100 * min(1.0, float(scipy.stats.kstwobign.isf(alpha) * scale))


def balanced_accuracy_floor(n_forget: int, n_test: int, *, alpha: float = 0.05) -> float:
    r"""Return the 1 - alpha quantile of `best_balanced_accuracy` under exact unlearning.

    It is (1 + D) / 2 with the one-sided two-sample Kolmogorov-Smirnov statistic D. The distribution
    is exact up to `EXACT_SIZE` examples in total. Beyond, it is the exact one-sample distribution
    at $n_f n_t / (n_f + n_t)$ examples, which differs by at most .001.

    Raises:
      InputError: a size below 1, or alpha outside (0, 1).

    >>> [round(balanced_accuracy_floor(n, n), 3) for n in (50, 100, 500, 1000)]
    [0.62, 0.585, 0.538, 0.527]
    """
    check(n_forget >= 1, "n_forget", n_forget, "at least 1 example")
    check(n_test >= 1, "n_test", n_test, "at least 1 example")
    check_levels(alpha=alpha)
    if n_forget + n_test <= EXACT_SIZE:
        distance = _exact_distance(n_forget, n_test, alpha)
    else:
        size = max(1, round(n_forget * n_test / (n_forget + n_test)))
        distance = float(scipy.special.smirnovi(size, alpha))
    return (1 + distance) / 2


def holm(p_values: Array | Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p-values, in the given order.

    The k-th smallest of n is multiplied by n - k + 1, then made non-decreasing. Rejecting adjusted
    values below alpha has a family-wise error of at most alpha, for tests of any dependence.

    Raises:
      InputError: no p-values, or one outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]

    References:
      Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    p_values = np.asarray(p_values, np.float64)
    if p_values.ndim != 1 or not len(p_values):
        raise InputError("p_values", f"has shape {p_values.shape}", "give [n], n of 1 or more")
    if not np.all((p_values >= 0) & (p_values <= 1)):
        found = f"ranges from {p_values.min()} to {p_values.max()}"
        raise InputError("p_values", found, "give probabilities")
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted


def _exact_distance(n_first: int, n_second: int, alpha: float) -> float:
    """Return the smallest d with P(D > d) <= alpha, by bisection over multiples of 1 / (n n')."""
    low, high = -1, n_first * n_second
    while high - low > 1:
        middle = (low + high) // 2
        if _chance_beyond(middle, n_first, n_second) <= alpha:
            high = middle
        else:
            low = middle
    return high / (n_first * n_second)


def _chance_beyond(limit: int, n_first: int, n_second: int) -> float:
    """Return P(D > limit / (n n')); the random order of both samples is a path from (0, 0).

    `inside[i]` is the probability that the first `step` values hold i of the first sample and that
    the path never left the region.
    """
    taken = np.arange(n_first + 1)
    inside = np.zeros(n_first + 1)
    inside[0] = 1.0
    total = n_first + n_second
    for step in range(total):
        goes_first = inside * ((n_first - taken) / (total - step))
        inside = np.maximum(inside - goes_first, 0.0)
        inside[1:] += goes_first[:-1]
        inside[taken * n_second - (step + 1 - taken) * n_first > limit] = 0.0
    return max(0.0, 1.0 - float(np.sum(inside)))
