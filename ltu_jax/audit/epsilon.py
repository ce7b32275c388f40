r"""Lower bounds on epsilon from attack scores: how much leaks at least, with confidence 1 - alpha.

`positive` are scores where the attack should say "was trained on", `negative` where it should not,
for unlearning: scores of unlearned and of retrained models. A higher score always means "in". If
the two were (epsilon, delta)-indistinguishable, every attack would obey
$TPR \le e^\varepsilon FPR + \delta$ and $TNR \le e^\varepsilon FNR + \delta$. A bound of 0 is no
evidence of leakage. It does not show that nothing leaked: read it beside `Bound.detectable`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from ltu_jax.errors import InputError, check_range

Array = np.ndarray

Rule = Literal["split", "bonferroni", "threshold"]


class Bound(NamedTuple):
    """What a sample says of epsilon, and what it could have said. In nats, all at one alpha.

    Attributes:
      epsilon: the lower bound, 0 where there is no evidence.
      certifiable: the largest bound that samples of this size can give: perfect separation.
      detectable: the smallest true epsilon that gives evidence (a bound above 0) with the chance
        `power`, where the attack is as good as epsilon allows: randomised response, a score of 1
        or 0 with TPR = TNR = e^eps / (1 + e^eps). Infinite where no leak gives evidence that often.
    """

    epsilon: float
    certifiable: float
    detectable: float


def clopper_pearson(
    successes: Array | int, trials: int, alpha: float, side: Literal["lower", "upper"]
) -> Array:
    """One-sided confidence limit of a rate, a fraction: wrong with chance alpha at most.

    Clopper & Pearson (Biometrika 1934): the rate at which as many successes, or as few, have the
    chance alpha. Exact in that it holds for any size.

    Raises:
      InputError: counts outside [0, trials], a level outside (0, 1), or an unknown side.

    >>> print(clopper_pearson(0, 100, 0.05, "upper").round(4))
    0.0295
    """
    check_levels(alpha=alpha)
    successes = np.asarray(successes)
    if not np.all((successes >= 0) & (successes <= trials)):
        raise InputError(f"successes is {successes}; give counts from 0 to trials ({trials})")
    if side not in ("lower", "upper"):
        raise InputError(f"side is {side!r}; give 'lower' or 'upper'")
    failures = trials - successes
    if side == "upper":
        limit = special.betaincinv(successes + 1, np.maximum(failures, 1), 1 - alpha)
        return np.where(failures == 0, 1.0, limit)
    limit = special.betaincinv(np.maximum(successes, 1), failures + 1, alpha)
    return np.where(successes == 0, 0.0, limit)


def epsilon_lower_bound(
    positive: Array,
    negative: Array,
    *,
    alpha: float = 0.05,
    delta: float = 0.0,
    rule: Rule = "split",
    threshold: float | None = None,
    mirror: bool = True,
    power: float = 0.8,
    seed: int = 0,
) -> Bound:
    r"""Lower bound on epsilon, in nats, from scores `[P]` and `[N]`; 0 at least.

    $\ln((TPR_L - \delta) / FPR_U)$, and with `mirror` $\ln((TNR_L - \delta) / FNR_U)$ if larger.
    The limits are Clopper & Pearson's at alpha / 2 each, and both forms use the same two (Jagielski
    et al., arXiv 2006.07709). A score at or above the threshold counts as "in".

    Args:
      positive: scores of what the attack should call "in".
      negative: the others' scores.
      alpha: chance at most that the bound is above the true epsilon.
      delta: chance left to a larger loss.
      rule: where the threshold comes from. `"split"`: a random half of each sample chooses it, and
        the other half makes the bound. `"bonferroni"`: the best of the corners of the ROC curve's
        hull, alpha divided by their number, as in jax-privacy 2.0.0. `"threshold"`: the one given,
        which must not have been chosen by these scores.
      threshold: only for `rule="threshold"`.
      mirror: whether to take the second form too.
      power: for `Bound.detectable`.
      seed: of the random halves.

    Raises:
      InputError: scores that are no row, empty or NaN, fewer than two a side for `"split"`, a level
        or delta out of range, or a threshold given to another rule.

    >>> bound = epsilon_lower_bound(np.arange(128) + 1000.0, np.arange(128.0))
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, sees {bound.detectable:.2f}")
    2.79 of 2.82, sees 0.68
    """
    positive, negative = check_scores(positive=positive, negative=negative)
    check_levels(alpha=alpha, power=power)
    check_delta(delta)
    if (rule == "threshold") != (threshold is not None):
        raise InputError(f"threshold is {threshold} with rule {rule!r}; they go together")
    if rule == "split":
        positive, negative, threshold = _split(positive, negative, alpha, delta, mirror, seed)
    if rule in ("split", "threshold"):
        tp, fp = np.sum(positive >= threshold), np.sum(negative >= threshold)
        tests, fewest_tests = 1, 1
    elif rule == "bonferroni":
        fp, tp = roc_hull(positive, negative)
        # Two separated samples, or a score of 0 and 1, have a hull of three corners.
        tests, fewest_tests = len(fp), 3
    else:
        raise InputError(f"rule is {rule!r}; give 'split', 'bonferroni' or 'threshold'")
    sizes = len(positive), len(negative)
    bounds = _bounds(tp, fp, sizes, alpha / tests, delta, mirror)
    return Bound(
        max(0.0, float(np.max(bounds))),
        certifiable_epsilon(*sizes, alpha=alpha / fewest_tests, delta=delta),
        detectable_epsilon(*sizes, alpha=alpha / fewest_tests, delta=delta, power=power),
    )


def certifiable_epsilon(
    n_positive: int, n_negative: int, *, alpha: float = 0.05, delta: float = 0.0
) -> float:
    """Largest epsilon, in nats, that so many scores can certify at one threshold; 0 at least.

    With rule `"split"` count the half that makes the bound.

    >>> [round(certifiable_epsilon(n, n), 1) for n in (32, 64, 512)]
    [2.1, 2.8, 4.9]
    """
    _check_sizes(n_positive, n_negative)
    check_levels(alpha=alpha)
    check_delta(delta)
    sizes = n_positive, n_negative
    return max(0.0, float(_bounds(n_positive, 0, sizes, alpha, delta, mirror=True)))


@lru_cache
def detectable_epsilon(
    n_positive: int,
    n_negative: int,
    *,
    alpha: float = 0.05,
    delta: float = 0.0,
    power: float = 0.8,
) -> float:
    r"""Smallest true epsilon, in nats, whose bound at one threshold is above 0 with chance `power`.

    The attack is randomised response (see `Bound`). Its true positives are Bin(P, q) and its false
    ones Bin(N, 1 - q) with $q = e^\varepsilon / (1 + e^\varepsilon)$, and there is evidence where
    $TPR_L - \delta > FPR_U$: the chance is summed exactly. q is also the attack's true TPR and
    balanced accuracy. Infinite where even q = 1 gives no evidence.

    >>> [round(detectable_epsilon(n, n), 2) for n in (32, 64, 512)]
    [0.99, 0.68, 0.23]
    """
    _check_sizes(n_positive, n_negative)
    check_levels(alpha=alpha, power=power)
    check_delta(delta)
    tp = np.arange(n_positive + 1)
    lower = clopper_pearson(tp, n_positive, alpha / 2, "lower") - delta
    upper = clopper_pearson(np.arange(n_negative + 1), n_negative, alpha / 2, "upper")
    most_fp = np.searchsorted(upper, lower) - 1

    def power_at(epsilon: float) -> float:
        q = special.expit(epsilon)
        chance = stats.binom.pmf(tp, n_positive, q)
        return float(np.sum(chance * stats.binom.cdf(most_fp, n_negative, 1 - q)))

    return last_true(lambda epsilon: power_at(epsilon) < power, most=100.0)


def gdp_mu_lower_bound(positive: Array, negative: Array, *, alpha: float = 0.05) -> float:
    r"""Lower bound on mu of Gaussian differential privacy, from scores `[P]` and `[N]`.

    $\max_t [\Phi^{-1}(1 - FPR_U) - \Phi^{-1}(FNR_U)]$ over the corners of the ROC curve's hull,
    alpha divided over both limits of all of them, and 0 at least (Nasr et al., arXiv 2302.07956).
    It may be taken where the leakage is Gaussian, as with noise added to gradients. Do not take the
    absolute value, as jax-privacy 2.0.0 does: that finds evidence in noise.

    Raises:
      InputError: see `epsilon_lower_bound`.
    """
    positive, negative = check_scores(positive=positive, negative=negative)
    check_levels(alpha=alpha)
    fp, tp = roc_hull(positive, negative)
    level = alpha / (2 * len(fp))
    fpr_high = clopper_pearson(fp, len(negative), level, "upper")
    tpr_low = clopper_pearson(tp, len(positive), level, "lower")
    use = (fpr_high < 1) & (tpr_low > 0)
    mu = -special.ndtri(fpr_high[use]) + special.ndtri(tpr_low[use])
    return float(np.max(mu, initial=0.0))


def gdp_epsilon(mu: float, delta: float) -> float:
    r"""Smallest epsilon, in nats, such that mu-GDP implies (epsilon, delta)-DP.

    $\delta(\varepsilon) = \Phi(-\varepsilon/\mu + \mu/2) - e^\varepsilon \Phi(-\varepsilon/\mu -
    \mu/2)$: Dong, Roth & Su (arXiv 1905.02383), Corollary 2.13.

    >>> round(gdp_epsilon(1.0, 1e-5), 3)
    4.377
    """
    check_range(SimpleNamespace(mu=mu), ("mu",), lambda x: 0 <= x < np.inf, "0 or more")
    check_levels(delta=delta)
    return last_true(lambda epsilon: _log_gdp_delta(epsilon, mu) > np.log(delta))


def gdp_mu(epsilon: float, delta: float) -> float:
    """Largest mu such that mu-GDP implies (epsilon, delta)-DP: the inverse of `gdp_epsilon`.

    >>> round(gdp_mu(4.377, 1e-5), 3)
    1.0
    """
    given = SimpleNamespace(epsilon=epsilon)
    check_range(given, ("epsilon",), lambda x: 0 <= x < np.inf, "0 or more")
    check_levels(delta=delta)
    return last_true(lambda mu: _log_gdp_delta(epsilon, mu) <= np.log(delta))


def roc_hull(positive: Array, negative: Array) -> tuple[Array, Array]:
    """False and true positive *counts* at the corners of the ROC curve's upper hull, ascending.

    From (0, 0) to (N, P). Which corner is best depends on the costs, all others never are (Provost
    & Fawcett 2001). Turned by 45 degrees the curve is a function, and its hull's slopes are the
    isotonic regression of its own slopes.
    """
    positive, negative = check_scores(positive=positive, negative=negative)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    tp, fp = (
        np.append(0, len(sample) - np.searchsorted(np.sort(sample), thresholds))
        for sample in (positive, negative)
    )
    along, across = fp + tp, tp - fp
    weights = np.diff(along)
    slopes = np.diff(across) / weights
    fit = optimize.isotonic_regression(slopes, weights=weights, increasing=False).x
    corners = np.concatenate([[True], np.diff(fit) < -1e-12, [True]])
    return fp[corners], tp[corners]


def last_true(holds: Callable[[float], bool], *, most: float = np.inf) -> float:
    """Return where `holds` turns from true to false above 0; 0 if it never holds.

    By bisection to the last bit but a few. Infinite if it still holds at `most`.
    """
    if not holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while holds(high):
        if high > most:
            return np.inf
        low, high = high, 2 * high
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def check_scores(**samples: Array) -> list[Array]:
    """Return the named samples as rows of float64; `InputError` if one is empty or has a NaN."""
    rows = [np.asarray(sample, np.float64) for sample in samples.values()]
    for name, row in zip(samples, rows, strict=True):
        if row.ndim != 1 or not len(row):
            raise InputError(f"{name} has shape {row.shape}; give a row of at least one score")
        if np.isnan(row).any():
            raise InputError(f"{name} holds {np.isnan(row).sum()} NaN; drop or mend those scores")
    return rows


def check_levels(**levels: float) -> None:
    """Raise `InputError` unless the named numbers are strictly between 0 and 1."""
    check_range(
        SimpleNamespace(**levels), tuple(levels), lambda x: 0 < x < 1, "a level between 0 and 1"
    )


def check_delta(delta: float) -> None:
    """Raise `InputError` unless delta is in [0, 1)."""
    check_range(
        SimpleNamespace(delta=delta), ("delta",), lambda x: 0 <= x < 1, "a chance, 0 or below 1"
    )


def _check_sizes(n_positive: int, n_negative: int) -> None:
    sizes = SimpleNamespace(n_positive=n_positive, n_negative=n_negative)
    check_range(sizes, ("n_positive", "n_negative"), lambda n: n >= 1, "at least 1 score")


def _split(
    positive: Array, negative: Array, alpha: float, delta: float, mirror: bool, seed: int
) -> tuple[Array, Array, float]:
    """Return one half of each sample, and the threshold whose bound is best on the other."""
    for name, sample in (("positive", positive), ("negative", negative)):
        if len(sample) < 2:
            raise InputError(f"{name} has 1 score; give 2 or more to split, or another rule")
    rng = np.random.default_rng(seed)
    (choose_in, positive), (choose_out, negative) = (
        np.split(rng.permutation(sample), [len(sample) // 2]) for sample in (positive, negative)
    )
    thresholds = np.unique(np.concatenate([choose_in, choose_out]))
    tp, fp = (
        len(sample) - np.searchsorted(np.sort(sample), thresholds)
        for sample in (choose_in, choose_out)
    )
    bounds = _bounds(tp, fp, (len(choose_in), len(choose_out)), alpha, delta, mirror)
    return positive, negative, float(thresholds[np.argmax(bounds)])


def _bounds(
    tp: Array, fp: Array, sizes: tuple[int, int], alpha: float, delta: float, mirror: bool
) -> Array:
    """Return the bound at each threshold, below 0 or -inf where there is no evidence."""
    tpr_low = clopper_pearson(tp, sizes[0], alpha / 2, "lower")
    fpr_high = clopper_pearson(fp, sizes[1], alpha / 2, "upper")
    with np.errstate(divide="ignore"):
        direct = np.log(np.maximum(tpr_low - delta, 0.0)) - np.log(fpr_high)
        mirrored = np.log(np.maximum(1 - fpr_high - delta, 0.0)) - np.log(1 - tpr_low)
    return np.maximum(direct, mirrored) if mirror else direct


def _log_gdp_delta(epsilon: float, mu: float) -> float:
    """Return ln delta(epsilon) of mu-GDP, in logarithms since both terms may be tiny."""
    if mu == 0:
        return -np.inf
    first = special.log_ndtr(-epsilon / mu + mu / 2)
    second = epsilon + special.log_ndtr(-epsilon / mu - mu / 2)
    with np.errstate(divide="ignore"):
        return float(first + np.log(-np.expm1(np.minimum(second - first, 0.0))))
