"""The ROC curve of two score samples and its summaries; all rates are fractions in [0, 1].

`positive` are the scores `[P]` of training members, `negative` those `[N]` of non-members. A higher
score means "was trained on". Scores may be infinite. All functions raise `InputError` for a sample
that is empty, has several axes or holds NaN.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy

from ltu_jax.audit.checks import check, check_levels, check_scores
from ltu_jax.errors import InputError
from ltu_jax.types import Array

Convention = Literal["last", "below", "nearest", "hull"]


class Interval(NamedTuple):
    """An estimate between the two ends of its confidence interval."""

    estimate: float
    low: float
    high: float


class TPRAtFPR(NamedTuple):
    """A point of the ROC curve, and the number of negatives that estimate its FPR."""

    tpr: float
    fpr: float
    negatives: int


class Decision(NamedTuple):
    """Rates of one threshold: accuracy over all scores, precision, and recall (the TPR)."""

    accuracy: float
    precision: float
    recall: float


def roc_curve(
    positive: Array, negative: Array, *, drop_intermediate: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return FPR, TPR and threshold of every ROC point, three arrays `[T]`, from (0, 0) to (1, 1).

    Every distinct score is a threshold; scores at or above it count as members. The point (0, 0)
    has threshold infinity. `drop_intermediate` leaves out points on a straight line between others,
    as scikit-learn's `roc_curve` does by default.

    >>> fpr, tpr, thresholds = roc_curve([3, 2, 2], [2, 1])
    >>> fpr.tolist(), tpr.tolist(), thresholds.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.3333333333333333, 1.0, 1.0], [inf, 3.0, 2.0, 1.0])
    """
    from sklearn import metrics

    is_positive, code, values = _labelled(positive, negative)
    fpr, tpr, thresholds = metrics.roc_curve(is_positive, code, drop_intermediate=drop_intermediate)
    return fpr, tpr, np.append(np.inf, values[thresholds[1:].astype(int)])


def roc_auc(positive: Array, negative: Array) -> float:
    """Return the probability that a positive scores above a negative; ties count half.

    >>> roc_auc([3, 2], [2, 1])
    0.875
    """
    positive, negative = _samples(positive, negative)
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    wins = np.sum(ranks[: len(positive)]) - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def partial_auc(positive: Array, negative: Array, max_fpr: float) -> float:
    """Return the area left of `max_fpr`, in (0, 1], scaled so that chance is 0.5 and the best 1.

    References:
      McClish, "Analyzing a Portion of the ROC Curve", Medical Decision Making 1989.
    """
    from sklearn import metrics

    check(0 < max_fpr <= 1, "max_fpr", max_fpr, "a number above 0, and 1 at most")
    is_positive, code, _ = _labelled(positive, negative)
    return float(metrics.roc_auc_score(is_positive, code, max_fpr=max_fpr))


def roc_hull(positive: Array, negative: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive *counts* at the corners of the ROC curve's upper hull.

    They ascend from (0, 0) to (N, P). An attacker who randomises between two thresholds reaches the
    points between corners. The hull is fitted to the scores that it rates, so it is above the curve
    and too high by chance. Rotated by 45 degrees the curve is a function; its hull's slopes are the
    isotonic regression of its own slopes.

    >>> fp, tp = roc_hull([4, 2], [3, 1])
    >>> fp.tolist(), tp.tolist()
    ([0, 0, 1, 2], [0, 1, 2, 2])

    References:
      Provost & Fawcett, "Robust Classification for Imprecise Environments", 2001.
    """
    positive, negative = _samples(positive, negative)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    tp, fp = (np.append(0, count) for count in counts_above(thresholds, positive, negative))
    along, across = fp + tp, tp - fp
    weights = np.diff(along)
    slopes = np.diff(across) / weights
    fit = scipy.optimize.isotonic_regression(slopes, weights=weights, increasing=False).x
    corners = np.concatenate([[True], np.diff(fit) < -1e-12, [True]])
    return fp[corners], tp[corners]


def counts_above(thresholds: Array, *samples: np.ndarray) -> list[np.ndarray]:
    """Return for each sample how many of its scores are at or above each threshold, `[T]`."""
    return [len(sample) - np.searchsorted(np.sort(sample), thresholds) for sample in samples]


def tpr_at_fpr(
    positive: Array, negative: Array, level: float, convention: Convention = "last"
) -> TPRAtFPR:
    """Return the TPR at a false positive rate of `level`.

    With N negatives and a level below 1 / N, `"last"` allows no false positive at all.

    Args:
      positive: scores `[P]`.
      negative: scores `[N]`.
      level: false positive rate, a fraction.
      convention: `"last"` is the last point with FPR <= level, as in Privacy Meter and ART;
        `"below"` the last with FPR < level, as in LiRA's released code; `"nearest"` the corner with
        the nearest FPR, the first of several; `"hull"` interpolates `roc_hull` as jax-privacy does.

    >>> tpr_at_fpr([4, 2], [3, 1], 0.25)
    TPRAtFPR(tpr=0.5, fpr=0.0, negatives=2)
    >>> tpr_at_fpr([4, 2], [3, 1], 0.25, "hull")
    TPRAtFPR(tpr=0.75, fpr=0.25, negatives=2)
    """
    conventions = get_args(Convention)
    check(convention in conventions, "convention", convention, f"one of {', '.join(conventions)}")
    check(0 <= level <= 1, "level", level, "a false positive rate between 0 and 1")
    if convention == "below" and level == 0:
        raise InputError(
            "level", "is 0, and no rate is below it", "give more, or another convention"
        )
    positive, negative = _samples(positive, negative)
    if convention == "hull":
        fp, tp = roc_hull(positive, negative)
        tpr = np.interp(level, fp / len(negative), tp / len(positive))
        return TPRAtFPR(float(tpr), float(level), len(negative))
    fpr, tpr, _ = roc_curve(positive, negative, drop_intermediate=convention == "nearest")
    if convention == "nearest":
        point = np.argmin(np.abs(fpr - level))
    else:
        point = np.searchsorted(fpr, level, side="right" if convention == "last" else "left") - 1
    return TPRAtFPR(float(tpr[point]), float(fpr[point]), len(negative))


def best_balanced_accuracy(positive: Array, negative: Array) -> float:
    """Return the largest (TPR + 1 - FPR) / 2 over all thresholds.

    It is (1 + D) / 2 with the one-sided Kolmogorov-Smirnov distance D. The threshold is chosen with
    the scores that it rates, so chance alone exceeds 0.5; see `bounds.balanced_accuracy_floor`.

    >>> best_balanced_accuracy([4, 2], [3, 1])
    0.75
    """
    fpr, tpr, _ = roc_curve(positive, negative)
    return float(np.max((tpr + 1 - fpr) / 2))


def decide(positive: Array, negative: Array, threshold: float) -> Decision:
    """Rate the attack that calls scores >= `threshold` members; precision is NaN if none is.

    >>> decide([4, 2], [3, 1], 2)
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


def auc_interval(positive: Array, negative: Array, alpha: float = 0.05) -> Interval:
    """Return the AUC of independent scores with DeLong's 1 - alpha interval, on the logit scale.

    If the variance vanishes, with separated samples or nothing but ties, all of min(P, N) disjoint
    pairs had the same outcome. The interval then holds every probability of that outcome that is at
    least (alpha / 2)^(1 / min(P, N)).

    Raises:
      InputError: a sample has fewer than 2 scores, or `alpha` is not in (0, 1).

    >>> low, high = auc_interval(range(50, 150), range(100))[1:]
    >>> print(f"{low:.3f} {high:.3f}")
    0.823 0.913
    >>> auc_interval([2, 3], [0, 1]).high
    1.0

    References:
      DeLong et al., "Comparing the Areas under Two or More Correlated ROC Curves", 1988.
      Sun & Xu, "Fast Implementation of DeLong's Algorithm", 2014.
    """
    check_levels(alpha=alpha)
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


def auc_difference_error(first: tuple[Array, Array], second: tuple[Array, Array]) -> float:
    """Return DeLong's standard error of the difference of two AUCs on the same examples.

    Args:
      first: scores `[P]` of the positives and `[N]` of the negatives under one model.
      second: the same of another model, in the same order.

    Raises:
      InputError: a sample has fewer than 2 scores.

    >>> auc_difference_error(([3, 2], [2, 1]), ([3, 2], [2, 1]))
    0.0

    References:
      DeLong et al., "Comparing the Areas under Two or More Correlated ROC Curves", 1988.
    """
    placements = [_placements(*_samples(*scores, least=2)) for scores in (first, second)]
    changes = [one - other for one, other in zip(*placements, strict=True)]
    return float(np.sqrt(sum(np.var(change, ddof=1) / len(change) for change in changes)))


def _placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of negatives below each positive, and of positives above each negative; ties half."""
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    n_positive, n_negative = len(positive), len(negative)
    above = (ranks[:n_positive] - scipy.stats.rankdata(positive)) / n_negative
    below = 1 - (ranks[n_positive:] - scipy.stats.rankdata(negative)) / n_positive
    return above, below


def _labelled(positive: Array, negative: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and integer codes of all scores, `[P + N]`, and each code's score, ascending.

    Codes, because scikit-learn refuses infinite scores, which a log-ratio may have.
    """
    positive, negative = _samples(positive, negative)
    is_positive = np.repeat([1, 0], [len(positive), len(negative)])
    values, code = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    return is_positive, code, values


def _samples(positive: Array, negative: Array, *, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return check_scores("positive", positive, least), check_scores("negative", negative, least)
