"""The ROC curve of two score samples, and what is read off it. All rates are fractions in [0, 1].

`positive` are the scores `[P]` of training members, `negative` those `[N]` of non-members, and a
higher score means "was trained on". Intervals treat scores as independent unless groups are given.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy

from ltu_jax.errors import InputError

Array = np.ndarray


class Interval(NamedTuple):
    """An estimate between the two ends of its confidence interval."""

    estimate: float
    low: float
    high: float


class TPRAtFPR(NamedTuple):
    """A point of the ROC curve, and the number of negatives that its FPR was counted on."""

    tpr: float
    fpr: float
    negatives: int


class Decision(NamedTuple):
    """What one threshold yields: accuracy over all scores, precision and recall (the TPR)."""

    accuracy: float
    precision: float
    recall: float


def curve(
    positive: Array, negative: Array, *, drop_intermediate: bool = False
) -> tuple[Array, Array, Array]:
    """FPR, TPR and threshold of every ROC point, three arrays `[T]`, from (0, 0) to (1, 1).

    There is one point for each distinct score, which calls scores from its threshold upwards
    members, and the point (0, 0) with threshold infinity. `drop_intermediate` leaves out points on
    a straight line between others, as scikit-learn's `roc_curve` does unless told not to.

    Raises:
      InputError: a sample is empty, not of one axis, or holds NaN.

    >>> fpr, tpr, thresholds = curve([3, 2, 2], [2, 1])
    >>> fpr.tolist(), tpr.tolist(), thresholds.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.3333333333333333, 1.0, 1.0], [inf, 3.0, 2.0, 1.0])
    """
    from sklearn.metrics import roc_curve

    is_positive, code, values = _labelled(positive, negative)
    fpr, tpr, thresholds = roc_curve(is_positive, code, drop_intermediate=drop_intermediate)
    return fpr, tpr, np.append(np.inf, values[thresholds[1:].astype(int)])


def auc(positive: Array, negative: Array) -> float:
    """Chance that a positive scores above a negative; ties count half (Mann-Whitney).

    Raises:
      InputError: as `curve`.

    >>> auc([3, 2], [2, 1])
    0.875
    """
    positive, negative = _samples(positive, negative)
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    wins = np.sum(ranks[: len(positive)]) - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def partial_auc(positive: Array, negative: Array, max_fpr: float) -> float:
    """Area left of `max_fpr`, in (0, 1], scaled as McClish (1989): chance is 0.5 and the best 1.

    Raises:
      InputError: as `curve`, or `max_fpr` is out of range.
    """
    from sklearn.metrics import roc_auc_score

    if not 0 < max_fpr <= 1:
        raise InputError(f"max_fpr is {max_fpr}; give a number above 0, and 1 at most")
    is_positive, code, _ = _labelled(positive, negative)
    return float(roc_auc_score(is_positive, code, max_fpr=max_fpr))


def hull(positive: Array, negative: Array) -> tuple[Array, Array]:
    """FPR and TPR of the corners of the ROC curve's upper convex hull, two arrays `[H]`.

    An attacker who draws one of two thresholds by lot reaches each point between its corners. The
    hull is chosen with the very scores that it rates: above the curve, and too high by chance.

    Raises:
      InputError: as `curve`.

    >>> fpr, tpr = hull([4, 2], [3, 1])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    fpr, tpr, _ = curve(positive, negative)
    members = np.rint(np.diff(tpr) * len(positive))
    examples = members + np.rint(np.diff(fpr) * len(negative))
    # Steps pooled until the share of members among their examples only falls are the hull's sides.
    sides = scipy.optimize.isotonic_regression(
        members / examples, weights=examples, increasing=False
    ).blocks
    return fpr[sides], tpr[sides]


def tpr_at_fpr(
    positive: Array,
    negative: Array,
    level: float,
    convention: Literal["last", "below", "nearest", "hull"] = "last",
) -> TPRAtFPR:
    """TPR where the false positive rate is `level`; tools differ in what that means.

    `last`, the house's: the last point of the curve with FPR <= level, as Privacy Meter and ART.
    `below`: the last with FPR < level, as the released code of LiRA (arXiv 2112.03570).
    `nearest`: the corner of the curve with the nearest FPR, on either side; of several, the first.
    `hull`: at the level itself, on the straight lines of `hull`, as jax-privacy.
    With N negatives `last` sees no false positive at all below 1 / N.

    Raises:
      InputError: as `curve`; `level` is not in [0, 1], or 0 with `below`; an unknown convention.

    >>> tpr_at_fpr([4, 2], [3, 1], 0.25)
    TPRAtFPR(tpr=0.5, fpr=0.0, negatives=2)
    >>> tpr_at_fpr([4, 2], [3, 1], 0.25, "hull")
    TPRAtFPR(tpr=0.75, fpr=0.25, negatives=2)
    """
    _check_level(level, convention)
    negatives = len(check_sample("negative", negative))
    if convention == "hull":
        tpr = np.interp(level, *hull(positive, negative))
        return TPRAtFPR(float(tpr), float(level), negatives)
    fpr, tpr, _ = curve(positive, negative, drop_intermediate=convention == "nearest")
    if convention == "nearest":
        point = np.argmin(np.abs(fpr - level))
    else:
        point = np.searchsorted(fpr, level, side="right" if convention == "last" else "left") - 1
    return TPRAtFPR(float(tpr[point]), float(fpr[point]), negatives)


def best_balanced_accuracy(positive: Array, negative: Array) -> float:
    """Largest (TPR + 1 - FPR) / 2 over all thresholds: (1 + KS) / 2 of the one-sided distance.

    The threshold is chosen with the very scores that it rates, so chance alone makes it exceed 0.5.

    Raises:
      InputError: as `curve`.

    >>> best_balanced_accuracy([4, 2], [3, 1])
    0.75
    """
    fpr, tpr, _ = curve(positive, negative)
    return float(np.max((tpr + 1 - fpr) / 2))


def decision(positive: Array, negative: Array, threshold: float) -> Decision:
    """Rate the attack that calls scores >= `threshold` members; precision is NaN if it calls none.

    Raises:
      InputError: as `curve`.

    >>> decision([4, 2], [3, 1], 2)
    Decision(accuracy=0.75, precision=0.6666666666666666, recall=1.0)
    """
    positive, negative = _samples(positive, negative)
    hits, false_alarms = np.sum(positive >= threshold), np.sum(negative >= threshold)
    called = hits + false_alarms
    right = hits + len(negative) - false_alarms
    return Decision(
        accuracy=float(right / (len(positive) + len(negative))),
        precision=float(hits / called) if called else float("nan"),
        recall=float(hits / len(positive)),
    )


def delong(positive: Array, negative: Array, alpha: float = 0.05) -> Interval:
    """AUC with DeLong's 1 - alpha confidence interval, on the logit scale; for independent scores.

    Variance from midranks (DeLong et al. 1988; Sun & Xu 2014). Where it vanishes, with separated
    samples or nothing but ties, min(P, N) disjoint pairs had the same outcome: then that outcome
    has at least the chance (alpha / 2)^(1 / min(P, N)), and the interval is what this leaves.

    Raises:
      InputError: as `curve`; a sample holds fewer than 2 scores; `alpha` is not in (0, 1).

    >>> low, high = delong(range(50, 150), range(100))[1:]
    >>> print(f"{low:.3f} {high:.3f}")
    0.823 0.913
    >>> delong([2, 3], [0, 1]).high
    1.0
    """
    _check_alpha(alpha)
    positive, negative = _samples(positive, negative, least=2)
    above, below = _placements(positive, negative)
    estimate = float(np.mean(above))
    variance = np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below)
    if np.ptp(above) == 0 and np.ptp(below) == 0:
        same = (alpha / 2) ** (1 / min(len(above), len(below)))
        return Interval(estimate, estimate * same, estimate * same + 1 - same)
    spread = np.sqrt(variance) / (estimate * (1 - estimate))
    reach = scipy.stats.norm.isf(alpha / 2) * spread * np.array([-1, 1])
    low, high = scipy.special.expit(scipy.special.logit(estimate) + reach)
    return Interval(estimate, float(low), float(high))


def bootstrap_auc(
    positive: Array,
    negative: Array,
    *,
    positive_groups: Array | None = None,
    negative_groups: Array | None = None,
    draws: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Interval:
    """AUC with the percentile bootstrap's 1 - alpha interval; positives and negatives drawn apart.

    Scores of one model are not independent: `positive_groups` `[P]` and `negative_groups` `[N]`
    name each score's model (any labels), and whole models are drawn. A model that holds scores of
    both kinds keeps them together. Few groups, below 20 or so, make the interval too short.

    Raises:
      InputError: as `curve`; groups of another length; one group alone to draw from; `alpha` or
        `draws` out of range.
    """
    _check_alpha(alpha)
    if draws < 1:
        raise InputError(f"draws is {draws}; give 1 or more")
    positive, negative = _samples(positive, negative, least=2)
    group = _groups(positive_groups, negative_groups, len(positive), len(negative))
    strata = _strata(group, len(positive))
    _, code, _ = _labelled(positive, negative)
    rng = np.random.default_rng(seed)
    aucs = np.empty(draws)
    for draw in range(draws):
        drawn = np.concatenate([rng.choice(stratum, len(stratum)) for stratum in strata])
        times = np.bincount(drawn, minlength=np.max(group) + 1)
        aucs[draw] = _weighted_auc(code, times[group], len(positive))
    low, high = np.quantile(aucs, [alpha / 2, 1 - alpha / 2])
    return Interval(auc(positive, negative), float(low), float(high))


def _weighted_auc(code: Array, weight: Array, n_positive: int) -> float:
    """AUC of scores that count `weight` times each."""
    size = np.max(code) + 1
    positive = np.bincount(code[:n_positive], weight[:n_positive], size)
    negative = np.bincount(code[n_positive:], weight[n_positive:], size)
    wins = np.sum(positive * (np.cumsum(negative) - negative / 2))
    return wins / (np.sum(positive) * np.sum(negative))


def _groups(
    positive: Array | None, negative: Array | None, n_positive: int, n_negative: int
) -> Array:
    """Number 0, 1, ... of each score's group, `[P + N]`; a score without one is its own."""
    given = {
        "positive_groups": (positive, n_positive),
        "negative_groups": (negative, n_negative),
    }
    for name, (labels, size) in given.items():
        if labels is not None and np.shape(labels) != (size,):
            raise InputError(f"{name} has shape {np.shape(labels)}; give one label for each score")
    known = np.unique(np.concatenate([x for x, _ in given.values() if x is not None] or [[]]))
    own = len(known) + np.arange(n_positive + n_negative)
    parts = [
        single if labels is None else np.searchsorted(known, labels)
        for single, (labels, _) in zip(np.split(own, [n_positive]), given.values(), strict=True)
    ]
    return np.unique(np.concatenate(parts), return_inverse=True)[1]


def _strata(group: Array, n_positive: int) -> list[Array]:
    """Groups that replace each other in a draw: of positives alone, of negatives alone, of both.

    Drawn apart like this, no draw lacks positives or negatives.
    """
    every = np.arange(np.max(group) + 1)
    kind = np.isin(every, group[:n_positive]) + 2 * np.isin(every, group[n_positive:])
    strata = [every[kind == k] for k in np.unique(kind)]
    if min(map(len, strata)) < 2:
        raise InputError(
            "positive_groups and negative_groups have 1 group of some kind (positives alone, "
            "negatives alone, both); give 2 or more of each kind that occurs"
        )
    return strata


def _placements(positive: Array, negative: Array) -> tuple[Array, Array]:
    """Share of negatives below each positive, and of positives above each negative; ties half."""
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    n_positive, n_negative = len(positive), len(negative)
    above = (ranks[:n_positive] - scipy.stats.rankdata(positive)) / n_negative
    below = 1 - (ranks[n_positive:] - scipy.stats.rankdata(negative)) / n_positive
    return above, below


def _labelled(positive: Array, negative: Array) -> tuple[Array, Array, Array]:
    """Labels and codes of all scores, `[P + N]`, and the value of each code in ascending order.

    Codes, because scikit-learn refuses infinite scores, which a log-ratio may well be.
    """
    positive, negative = _samples(positive, negative)
    is_positive = np.repeat([1, 0], [len(positive), len(negative)])
    values, code = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    return is_positive, code, values


def _samples(positive: Array, negative: Array, *, least: int = 1) -> tuple[Array, Array]:
    return check_sample("positive", positive, least), check_sample("negative", negative, least)


def check_sample(name: str, scores: Array, least: int = 1) -> Array:
    """The argument `name` as float64 `[N]`.

    Raises:
      InputError: it has another number of axes, fewer than `least` values, or NaN.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or len(scores) < least:
        raise InputError(f"{name} has shape {scores.shape}; give [N] with N of {least} or more")
    missing = np.sum(np.isnan(scores))
    if missing:
        raise InputError(f"{name} holds {missing} NaN; give a number for each example")
    return scores


def _check_level(level: float, convention: str) -> None:
    if convention not in ("last", "below", "nearest", "hull"):
        raise InputError(f"convention is {convention!r}; give last, below, nearest or hull")
    if not 0 <= level <= 1:
        raise InputError(f"level is {level}; give a false positive rate between 0 and 1")
    if convention == "below" and level == 0:
        raise InputError("level is 0, and no rate is below it; give more, or convention='last'")


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; give a number between 0 and 1, such as 0.05")
