r"""The NeurIPS 2023 unlearning challenge's forget score (Triantafillou et al., arXiv 2406.09073).

For each forget example it compares the confidences that N unlearned and N retrained models give it:
the epsilon of the best of many attacks by their *raw* error rates. That is a maximum over noise:
exact unlearning has a score near .18, not 1, with 16 models as with 256. So never print a score
without `null_forget_score` or `permuted_forget_score` beside it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from ltu_jax.audit import signals
from ltu_jax.audit.epsilon import check_delta, check_levels
from ltu_jax.errors import InputError, check_range

Array = np.ndarray

DELTA = 1e-5
EPSILON_CAP = 50.0
PEAKY = 0.01  # one distribution's range by the other's, below which epsilon is the cap
STEP = 0.01  # of the thresholds, about
BUFFER = 2.0  # how far interval attacks look beyond the narrower distribution
BUCKET = 0.5  # of epsilon; each bucket has half the points of the one before


class NullScore(NamedTuple):
    """The forget score under exact unlearning, a fraction: its mean and a central interval."""

    mean: float
    low: float
    high: float


def logit_scaled_confidence(logits: Array, labels: Array) -> Array:
    """`signals.margin`, ln p_y - ln(1 - p_y), `[N]`, by the challenge's name for it.

    The challenge's code adds 1e-45 to both probabilities and sums them rounded, so that its values
    differ where p_y is within 1e-15 of 0 or 1.
    """
    return signals.margin(logits, labels)


def epsilons(unlearned: Array, retrained: Array, *, delta: float = DELTA) -> Array:
    r"""Epsilon of each example, `[n]`, in nats, from confidences `[N, n]` of N models each.

    The largest $\ln((1 - \delta - FPR) / FNR)$ or $\ln((1 - \delta - FNR) / FPR)$, over attacks by
    one threshold (the side with the larger median is positive) and by an interval (the narrower
    side is inside), on a grid of about 0.01. Rates of 0 are passed over, since they may be due to
    few models, unless both are 0: that is the cap of 50, and so is a range below 1 % of the
    other's. 0 where every attack is passed over.

    Raises:
      InputError: confidences that are no `[N, n]` of one shape, not finite, or N below 2.
    """
    unlearned, retrained = _check_confidences(unlearned, retrained)
    check_delta(delta)
    swap = np.median(retrained, axis=0) > np.median(unlearned, axis=0)
    positive = np.where(swap, retrained, unlearned)
    negative = np.where(swap, unlearned, retrained)
    columns = zip(positive.T, negative.T, strict=True)
    return np.array([_epsilon(pos, neg, delta) for pos, neg in columns])


def forget_score(unlearned: Array, retrained: Array, *, delta: float = DELTA) -> float:
    """Mean of the examples' points, a fraction: 1 for epsilon below .5, 1/2 below 1, 1/4, ...

    From confidences `[N, n]`. No points from ceil(ln(N - 1)) on, about the most that N models show.

    Raises:
      InputError: see `epsilons`.
    """
    return float(np.mean(points(epsilons(unlearned, retrained, delta=delta), len(unlearned))))


def points(epsilon: Array, num_models: int) -> Array:
    """Points of each epsilon `[n]`, a fraction, for N models a side.

    >>> points(np.array([0.2, 0.5, 1.2, 3.9]), num_models=48).tolist()
    [1.0, 0.5, 0.25, 0.0078125]
    """
    bucket = np.floor(np.asarray(epsilon) / BUCKET)
    most = int(np.ceil(np.log(num_models - 1)) / BUCKET)
    return np.where(bucket < most, 0.5**bucket, 0.0)


def null_forget_score(
    num_models: int,
    num_examples: int,
    *,
    scale: float = 1.0,
    alpha: float = 0.05,
    delta: float = DELTA,
    draws: int = 200,
    seed: int = 0,
) -> NullScore:
    """Forget score under exact unlearning, by simulation of `draws` examples.

    Both sides' confidences are normal with standard deviation `scale` (which matters little). The
    interval of 1 - alpha is that of a mean of `num_examples` *independent* examples; those of one
    set of models hang together, for them `permuted_forget_score` is honest.

    Raises:
      InputError: fewer than 3 models, no examples, fewer than 2 draws, or a number out of range.

    >>> null_forget_score(32, 1000, draws=50).mean < 0.5
    True
    """
    given = SimpleNamespace(
        num_models=num_models, num_examples=num_examples, scale=scale, draws=draws
    )
    check_range(given, ("num_models",), lambda n: n >= 3, "3 or more")
    check_range(given, ("num_examples",), lambda n: n >= 1, "1 or more")
    check_range(given, ("draws",), lambda n: n >= 2, "2 or more")
    check_range(given, ("scale",), lambda x: 0 < x < np.inf, "a number above 0")
    check_levels(alpha=alpha)
    rng = np.random.default_rng(seed)
    unlearned, retrained = rng.normal(scale=scale, size=(2, num_models, draws))
    won = points(epsilons(unlearned, retrained, delta=delta), num_models)
    means = np.mean(rng.choice(won, size=(2000, num_examples)), axis=1)
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    return NullScore(float(np.mean(won)), float(low), float(high))


def permuted_forget_score(
    unlearned: Array,
    retrained: Array,
    *,
    alpha: float = 0.05,
    delta: float = DELTA,
    draws: int = 20,
    seed: int = 0,
) -> NullScore:
    """Forget score under exact unlearning, by mixing whole models of both sides anew.

    From confidences `[N, n]`. If unlearning is exact, which models were retrained is a matter of
    labels. The interval is the central 1 - alpha of the draws.

    Raises:
      InputError: see `epsilons`; fewer than 2 draws.
    """
    unlearned, retrained = _check_confidences(unlearned, retrained)
    check_levels(alpha=alpha)
    check_range(SimpleNamespace(draws=draws), ("draws",), lambda n: n >= 2, "2 or more")
    rng = np.random.default_rng(seed)
    models = np.concatenate([unlearned, retrained])
    scores = []
    for _ in range(draws):
        first, second = np.split(rng.permutation(models), [len(unlearned)])
        scores.append(forget_score(first, second, delta=delta))
    low, high = np.quantile(scores, [alpha / 2, 1 - alpha / 2])
    return NullScore(float(np.mean(scores)), float(low), float(high))


def _epsilon(positive: Array, negative: Array, delta: float) -> float:
    narrow, wide = sorted((np.ptp(positive), np.ptp(negative)))
    if narrow < PEAKY * wide:
        return EPSILON_CAP
    hits = [_one_threshold(positive, negative), _interval(positive, negative)]
    return max(_largest_epsilon(tp, fp, len(positive), delta) for tp, fp in hits)


def _one_threshold(positive: Array, negative: Array) -> tuple[Array, Array]:
    """Return how many of each side are at or above each threshold."""
    both = np.concatenate([positive, negative])
    low, high = np.min(both), np.max(both)
    thresholds = np.linspace(low, high, int(np.ceil((high - low) / STEP)))
    return _above(positive, thresholds), _above(negative, thresholds)


def _interval(positive: Array, negative: Array) -> tuple[Array, Array]:
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


def _above(sample: Array, thresholds: Array) -> Array:
    return len(sample) - np.searchsorted(np.sort(sample), thresholds)


def _inside(sample: Array, left: Array, right: Array) -> Array:
    sample = np.sort(sample)
    upto = np.searchsorted(sample, right, side="right")
    return np.maximum(upto - np.searchsorted(sample, left), 0)


def _largest_epsilon(tp: Array, fp: Array, size: int, delta: float) -> float:
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


def _check_confidences(unlearned: Array, retrained: Array) -> tuple[Array, Array]:
    rows = np.asarray(unlearned, np.float64), np.asarray(retrained, np.float64)
    for name, row in zip(("unlearned", "retrained"), rows, strict=True):
        if row.ndim != 2 or row.shape[0] < 2 or row.shape[1] < 1:
            raise InputError(f"{name} has shape {row.shape}; give [models, examples], 2 models up")
        if not np.isfinite(row).all():
            raise InputError(f"{name} has NaN or infinite confidences; drop or mend them")
    if rows[0].shape != rows[1].shape:
        raise InputError(
            f"retrained has shape {rows[1].shape}; give that of unlearned, {rows[0].shape}"
        )
    return rows
