r"""What an attack finds by chance when unlearning was exact.

Then the model is a retrained one, and a random forget set is exchangeable with test examples: no
attack does better than chance, and finite samples make a floor around it. Inside the floor a model
is statistically as good as a retrained one, for that attack. A forgotten class is not exchangeable
with the test set: there Retrain's own value is the target, and these floors say nothing.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import scipy

from ltu_jax.errors import InputError, check_range

Array = np.ndarray

# Up to this many examples on both sides together a law is counted out (half a second).
EXACT_SIZE = 2000


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


def balanced_accuracy_floor(n_forget: int, n_test: int, *, alpha: float = 0.05) -> float:
    r"""Fraction that the best threshold's balanced accuracy exceeds by chance alpha at most.

    A threshold's balanced accuracy is (1 + TPR - FPR) / 2, so the best one's is (1 + D) / 2 with
    the one-sided two-sample Kolmogorov-Smirnov statistic D. Its law under exact unlearning is exact
    up to `EXACT_SIZE` examples together. Beyond, it is the exact law of one sample of
    $n_f n_t / (n_f + n_t)$ examples against a known distribution, which is off by .001 at most.

    Raises:
      InputError: a size below 1, or alpha outside (0, 1).

    >>> [round(balanced_accuracy_floor(n, n), 3) for n in (50, 100, 500, 1000)]
    [0.62, 0.585, 0.538, 0.527]
    """
    sizes = SimpleNamespace(n_forget=n_forget, n_test=n_test, alpha=alpha)
    check_range(sizes, ("n_forget", "n_test"), lambda n: n >= 1, "at least 1 example")
    check_range(sizes, ("alpha",), lambda level: 0 < level < 1, "a level between 0 and 1")
    if n_forget + n_test <= EXACT_SIZE:
        distance = _exact_distance(n_forget, n_test, alpha)
    else:
        size = max(1, round(n_forget * n_test / (n_forget + n_test)))
        distance = float(scipy.special.smirnovi(size, alpha))
    return (1 + distance) / 2


def balanced_accuracy_bound(epsilon: float, delta: float = 0.0) -> float:
    r"""Largest balanced accuracy, a fraction, that (epsilon, delta)-unlearning leaves any attack.

    $(e^\varepsilon + \delta) / (1 + e^\varepsilon)$: the corner of the trade-off of Kairouz, Oh &
    Viswanath (arXiv 1311.0776), where both error rates are equal.

    Raises:
      InputError: epsilon below 0, or delta outside [0, 1].

    >>> balanced_accuracy_bound(0.0), round(balanced_accuracy_bound(1.0), 3)
    (0.5, 0.731)
    """
    given = SimpleNamespace(epsilon=epsilon, delta=delta)
    check_range(given, ("epsilon",), lambda value: value >= 0, "0 or more")
    check_range(given, ("delta",), lambda value: 0 <= value <= 1, "a chance from 0 to 1")
    larger = float(scipy.special.expit(epsilon))
    return larger + delta * (1 - larger)


def holm(p_values: Array) -> Array:
    """Holm's adjusted p-values, in the order given: all below alpha hold together at level alpha.

    The k-th smallest of n is multiplied by n - k + 1, and none is below one before it (Holm 1979).
    The tests may depend on each other in any way.

    Raises:
      InputError: no p-values, or one outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, np.float64)
    if p_values.ndim != 1 or not len(p_values):
        raise InputError(f"p_values has shape {p_values.shape}; give a row of at least one")
    if not np.all((p_values >= 0) & (p_values <= 1)):
        raise InputError(f"p_values holds {p_values.min()} to {p_values.max()}; give chances")
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
    """P(D > limit / (n n')): the random order of both samples is a path that starts at (0, 0).

    `inside[i]` is the chance that the path had i of the first sample among its first `step` values
    and never left the region; what it loses has left.
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
