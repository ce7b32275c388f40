r"""Epsilons of other tools.

All take the best of many thresholds without correction, so their "bounds" exceed the true epsilon
more often than alpha. `epsilon.epsilon_lower_bound` corrects for it.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import special

from ltu_jax.audit.checks import check, check_delta, check_scores
from ltu_jax.audit.epsilon import clopper_pearson
from ltu_jax.audit.roc import counts_above, roc_hull
from ltu_jax.types import Array

Method = Literal["katz-log", "adjusted-log", "bailey", "inv-sinh", "clopper-pearson"]


def ratio_epsilons(
    positive: Array,
    negative: Array,
    *,
    method: Method,
    alpha: float = 0.05,
    flipped: bool = True,
) -> np.ndarray:
    """Return tensorflow-privacy's logarithms of `ratio_bound` at every threshold, descending.

    From scores `[P]` and `[N]`, in nats: TPR / FPR and TNR / FNR, and if `flipped` also both
    inverted, as if a low score meant "in". Thresholds without a bound are left out.

    Raises:
      InputError: invalid scores, an unknown method, or alpha out of range.
    """
    positive, negative = check_scores("positive", positive), check_scores("negative", negative)
    thresholds = np.unique(np.concatenate([positive, negative]))
    tp, fp = counts_above(thresholds, positive, negative)
    n_pos, n_neg = len(positive), len(negative)
    fn, tn = n_pos - tp, n_neg - fp
    pairs = [(tp, fp, n_pos, n_neg), (tn, fn, n_neg, n_pos)]
    if flipped:
        pairs += [(fp, tp, n_neg, n_pos), (fn, tn, n_pos, n_neg)]
    ratios = np.concatenate([ratio_bound(*pair, method=method, alpha=alpha) for pair in pairs])
    return np.sort(np.log(ratios[ratios > 0]))[::-1]


def ratio_bound(
    tp: Array,
    fp: Array,
    n_positive: int,
    n_negative: int,
    *,
    method: Method,
    alpha: float = 0.05,
) -> np.ndarray:
    """Return tensorflow-privacy's lower confidence limit of TPR / FPR from counts `[T]`.

    `katz-log` (Katz et al. 1978), `adjusted-log` (Walter 1975), `bailey` (Bailey 1987) and
    `inv-sinh` (Newcombe 2001) are large-sample limits, compared by Fagerland, Lydersen & Laake
    (2015). They replace a count of 0, or a full one, by half a count, or z^2 for `inv-sinh`.
    `clopper-pearson` divides two exact limits at alpha / 2 each.

    Raises:
      InputError: a count out of range, alpha outside (0, .5), or an unknown method.

    >>> print(ratio_bound(90, 5, 300, 350, method="clopper-pearson").round(2))
    7.53
    """
    tp, fp = np.asarray(tp, np.float64), np.asarray(fp, np.float64)
    _check(tp, fp, n_positive, n_negative, method, alpha)
    if method == "clopper-pearson":
        tpr_low = clopper_pearson(tp, n_positive, alpha / 2, "lower")
        fpr_high = clopper_pearson(fp, n_negative, alpha / 2, "upper")
        return np.where(fpr_high < 1, tpr_low / fpr_high, 0.0)

    z = special.ndtri(alpha)
    all_in = (tp == n_positive) & (fp == n_negative)
    half_tp, half_fp = np.where(all_in, tp - 0.5, tp), np.where(all_in, fp - 0.5, fp)
    if method == "adjusted-log":
        bound = _adjusted_log(half_tp, half_fp, n_positive, n_negative, z)
        return np.where((tp == 0) & (fp == 0), 0.0, bound)
    if method == "bailey":
        half_tp = np.where(tp == n_positive, tp - 0.5, tp)
        half_fp = np.where(fp == n_negative, fp - 0.5, fp)
    of = {"katz-log": _katz_log, "bailey": _bailey, "inv-sinh": _inverse_sinh}[method]
    no_fp = z**2 if method == "inv-sinh" else 0.5
    # Without true positives there is no bound; the formula then takes any count.
    bound = of(
        np.where(tp == 0, 1.0, half_tp),
        np.where(fp == 0, no_fp, half_fp),
        n_positive,
        n_negative,
        z,
    )
    return np.where(tp == 0, 0.0, bound)


def raw_epsilon(
    positive: Array,
    negative: Array,
    *,
    min_count: int,
    delta: float = 0.0,
    mirror: bool = True,
) -> float:
    r"""Return the largest $\ln((TPR - \delta) / FPR)$ with at least `min_count` false positives.

    In nats, on the ROC hull, as in jax-privacy 2.0.0. An estimate, not a bound: it is above 0 for
    most pairs of equal samples. `mirror` also takes $\ln((TNR - \delta) / FNR)$.

    Raises:
      InputError: invalid scores, `min_count` below 1, or delta out of range.
    """
    positive, negative = check_scores("positive", positive), check_scores("negative", negative)
    check_delta(delta)
    check(min_count >= 1, "min_count", min_count, "1 or more")
    fp, tp = roc_hull(positive, negative)
    best = _raw(fp, tp, min_count, delta)
    if mirror:
        best = max(best, _raw((tp[-1] - tp)[::-1], (fp[-1] - fp)[::-1], min_count, delta))
    return best


def _raw(fp: Array, tp: Array, min_count: int, delta: float) -> float:
    if min_count >= fp[-1]:
        return 0.0
    at = np.append(min_count, fp[fp >= min_count])
    gain = np.append(np.interp(min_count, fp, tp), tp[fp >= min_count]) / tp[-1] - delta
    ratios = gain[gain > 0] / (at[gain > 0] / fp[-1])
    return float(np.log(np.max(ratios, initial=1.0)))


def _katz_log(tp: Array, fp: Array, n_pos: int, n_neg: int, z: float) -> Array:
    spread = np.sqrt((1 - tp / n_pos) / tp + (1 - fp / n_neg) / fp)
    return tp / n_pos / (fp / n_neg) * np.exp(z * spread)


def _adjusted_log(tp: Array, fp: Array, n_pos: float, n_neg: float, z: float) -> Array:
    tp, fp, n_pos, n_neg = tp + 0.5, fp + 0.5, n_pos + 0.5, n_neg + 0.5
    spread = np.sqrt(1 / tp - 1 / n_pos + 1 / fp - 1 / n_neg)
    return tp / n_pos / (fp / n_neg) * np.exp(z * spread)


def _bailey(tp: Array, fp: Array, n_pos: int, n_neg: int, z: float) -> Array:
    """Bailey's cube; 0 if alpha is so small for the counts that its terms change sign."""
    fnr, tnr = 1 - tp / n_pos, 1 - fp / n_neg
    inner = fnr / tp + tnr / fp - z**2 * fnr * tnr / (9 * tp * fp)
    above = 1 + z / 3 * np.sqrt(np.maximum(inner, 0.0))
    below = 1 - z**2 * tnr / (9 * fp)
    holds = (inner >= 0) & (above > 0) & (below > 0)
    cube = (above / np.where(holds, below, 1.0)) ** 3
    return np.where(holds, tp / n_pos / (fp / n_neg) * cube, 0.0)


def _inverse_sinh(tp: Array, fp: Array, n_pos: int, n_neg: int, z: float) -> Array:
    spread = np.sqrt(np.maximum(1 / tp - 1 / n_pos + 1 / fp - 1 / n_neg, 0.0))
    return tp / n_pos / (fp / n_neg) * np.exp(2 * np.arcsinh(z / 2 * spread))


def _check(
    tp: Array, fp: Array, n_positive: int, n_negative: int, method: str, alpha: float
) -> None:
    for name, counts, size in (("tp", tp, n_positive), ("fp", fp, n_negative)):
        fits = np.all((counts >= 0) & (counts <= size))
        check(fits, name, counts, f"counts from 0 to {size}")
    methods = get_args(Method)
    check(method in methods, "method", repr(method), f"one of {', '.join(methods)}")
    check(0 < alpha < 0.5, "alpha", alpha, "a level between 0 and 0.5")
