r"""The forget score of the NeurIPS 2023 unlearning challenge.

For each forget example it compares the confidences of N unlearned and N retrained models by the
epsilon of the best of many attacks, from *raw* error rates. That maximum is biased: exact
unlearning scores about .18, not 1, with 16 models as with 256.

References:
  Triantafillou et al., "Are we making progress in unlearning?", arXiv 2406.09073.
"""

from __future__ import annotations

import numpy as np

from ltu_jax.audit.checks import check_delta, check_finite
from ltu_jax.audit.roc import counts_above
from ltu_jax.errors import InputError
from ltu_jax.types import Array

DELTA = 1e-5
EPSILON_CAP = 50.0
PEAKY = 0.01  # ratio of the two ranges below which epsilon is the cap
STEP = 0.01  # approximate distance of thresholds
BUFFER = 2.0  # margin of interval attacks around the narrower distribution
BUCKET = 0.5  # of epsilon; each bucket has half the points of the previous one


def epsilons(unlearned: Array, retrained: Array, *, delta: float = DELTA) -> np.ndarray:
    r"""Return each example's epsilon `[n]`, in nats, from confidences `[N, n]` of N models each.

    The largest $\ln((1 - \delta - FPR) / FNR)$ or $\ln((1 - \delta - FNR) / FPR)$ over attacks by
    one threshold (the side with the larger median is positive) and by an interval (the narrower
    side is inside), on a grid of about 0.01. Attacks with a rate of 0 are skipped, unless both are
    0: that is the cap of 50, as is a range below 1 % of the other's.

    Raises:
      InputError: confidences are not finite `[N, n]` of one shape, or N is below 2.
    """
    unlearned, retrained = _check_confidences(unlearned, retrained)
    check_delta(delta)
    swap = np.median(retrained, axis=0) > np.median(unlearned, axis=0)
    positive = np.where(swap, retrained, unlearned)
    negative = np.where(swap, unlearned, retrained)
    columns = zip(positive.T, negative.T, strict=True)
    return np.array([_epsilon(pos, neg, delta) for pos, neg in columns])


def forget_score(unlearned: Array, retrained: Array, *, delta: float = DELTA) -> float:
    """Return the mean of the examples' `points`, a fraction, from confidences `[N, n]`.

    Raises:
      InputError: see `epsilons`.
    """
    return float(np.mean(points(epsilons(unlearned, retrained, delta=delta), len(unlearned))))


def points(epsilon: Array, num_models: int) -> np.ndarray:
    """Return the points of each epsilon `[n]`: 1 below .5, 1/2 below 1, 1/4, ...

    None from ceil(ln(N - 1)) on, about the largest epsilon that N models can show.

    >>> points(np.array([0.2, 0.5, 1.2, 3.9]), num_models=48).tolist()
    [1.0, 0.5, 0.25, 0.0078125]
    """
    bucket = np.floor(np.asarray(epsilon) / BUCKET)
    most = int(np.ceil(np.log(num_models - 1)) / BUCKET)
    return np.where(bucket < most, 0.5**bucket, 0.0)


def _epsilon(positive: np.ndarray, negative: np.ndarray, delta: float) -> float:
    narrow, wide = sorted((np.ptp(positive), np.ptp(negative)))
    if narrow < PEAKY * wide:
        return EPSILON_CAP
    hits = [_one_threshold(positive, negative), _interval(positive, negative)]
    return max(_largest_epsilon(tp, fp, len(positive), delta) for tp, fp in hits)


def _one_threshold(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of each side are at or above each threshold."""
    both = np.concatenate([positive, negative])
    low, high = np.min(both), np.max(both)
    thresholds = np.linspace(low, high, int(np.ceil((high - low) / STEP)))
    tp, fp = counts_above(thresholds, positive, negative)
    return tp, fp


def _interval(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of the narrower and of the wider side are inside each interval."""
    if np.ptp(positive) >= np.ptp(negative):
        positive, negative = negative, positive
    width = np.ptp(positive)
    first, last = np.min(positive) + width - BUFFER, np.max(positive) + BUFFER
    right = np.linspace(first, last, int(np.ceil((last - first) / STEP)))
    count = int(np.ceil(2 * BUFFER / STEP))
    left = np.linspace(right - width - BUFFER, right - width + BUFFER, count)
    tp, fp = (_inside(side, left, right) for side in (positive, negative))
    return tp.ravel(), fp.ravel()


def _inside(sample: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    sample = np.sort(sample)
    upto = np.searchsorted(sample, right, side="right")
    return np.maximum(upto - np.searchsorted(sample, left), 0)


def _largest_epsilon(tp: np.ndarray, fp: np.ndarray, size: int, delta: float) -> float:
    """Return the largest epsilon of attacks that call `tp` and `fp` of `size` positive."""
    fpr, fnr = fp / size, 1 - tp / size
    if np.any((fpr == 0) & (fnr == 0)):
        return EPSILON_CAP
    use = (fpr > 0) & (fnr > 0)
    fpr, fnr = fpr[use], fnr[use]
    with np.errstate(divide="ignore"):
        first = np.log(np.maximum(1 - delta - fpr, 0)) - np.log(fnr)
        second = np.log(np.maximum(1 - delta - fnr, 0)) - np.log(fpr)
    return float(np.clip(np.max([first, second], initial=0.0), 0.0, EPSILON_CAP))


def _check_confidences(unlearned: Array, retrained: Array) -> tuple[np.ndarray, np.ndarray]:
    unlearned = check_finite("unlearned", unlearned, 2)
    retrained = check_finite("retrained", retrained, 2)
    if len(unlearned) < 2:
        raise InputError("unlearned", f"has {len(unlearned)} models", "give 2 or more")
    if unlearned.shape != retrained.shape:
        remedy = f"give that of `unlearned`, {unlearned.shape}"
        raise InputError("retrained", f"has shape {retrained.shape}", remedy)
    return unlearned, retrained
