r"""Lower bounds on epsilon from attack scores, valid with confidence 1 - alpha.

`positive` are scores of models that should be recognised ("in"), `negative` those of the others:
for unlearning, scores of unlearned and of retrained models. A higher score means "in". If the two
are (epsilon, delta)-indistinguishable, every attack obeys $TPR \le e^\varepsilon FPR + \delta$ and
$TNR \le e^\varepsilon FNR + \delta$. A bound of 0 means no evidence of leakage, not evidence of no
leakage: report it with `Bound.detectable`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import special, stats

from ltu_jax.audit.checks import check, check_delta, check_levels, check_scores
from ltu_jax.audit.roc import counts_above, roc_hull
from ltu_jax.errors import InputError
from ltu_jax.types import Array

Rule = Literal["split", "bonferroni", "threshold"]


class Bound(NamedTuple):
    """A lower bound on epsilon and its reach, in nats, at one alpha.

    Attributes:
      epsilon: the lower bound, 0 without evidence.
      certifiable: the largest bound that samples of this size can give, at perfect separation.
      detectable: the smallest true epsilon that gives a bound above 0 with probability `power`, for
        the best attack that epsilon allows: randomised response, a score of 1 or 0 with
        TPR = TNR = e^eps / (1 + e^eps). Infinite if no leak gives evidence that often.
    """

    epsilon: float
    certifiable: float
    detectable: float


def clopper_pearson(
    successes: Array | int, trials: int, alpha: float, side: Literal["lower", "upper"]
) -> np.ndarray:
    """Return a one-sided confidence limit of a rate: wrong with probability alpha at most.

    It is the rate at which as many successes, or as few, have probability alpha; exact at any size.

    Raises:
      InputError: counts outside [0, trials], a level outside (0, 1), or an unknown side.

    >>> print(clopper_pearson(0, 100, 0.05, "upper").round(4))
    0.0295

    References:
      Clopper & Pearson, "The Use of Confidence or Fiducial Limits", Biometrika 1934.
    """
    check_levels(alpha=alpha)
    successes = np.asarray(successes)
    fits = np.all((successes >= 0) & (successes <= trials))
    check(fits, "successes", successes, f"counts from 0 to `trials` ({trials})")
    check(side in ("lower", "upper"), "side", repr(side), "'lower' or 'upper'")
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
    r"""Return a lower bound on epsilon, in nats, from scores `[P]` and `[N]`; 0 at least.

    $\ln((TPR_L - \delta) / FPR_U)$, and with `mirror` $\ln((TNR_L - \delta) / FNR_U)$ if larger,
    with Clopper & Pearson's limits at alpha / 2 each. Scores at or above the threshold count as
    "in".

    Args:
      positive: scores of models that should be recognised.
      negative: the others' scores.
      alpha: largest probability that the bound exceeds the true epsilon.
      delta: of (epsilon, delta)-indistinguishability.
      rule: `"split"` chooses the threshold on a random half of each sample and bounds on the other;
        `"bonferroni"` takes the best corner of the ROC hull, alpha divided by their number, as in
        jax-privacy 2.0.0; `"threshold"` uses one that does not depend on these scores.
      threshold: for `rule="threshold"` only.
      mirror: whether to use the second form too.
      power: for `Bound.detectable`.
      seed: of the random halves.

    Raises:
      InputError: invalid scores, fewer than two a side for `"split"`, a level or delta out of
        range, or a threshold with another rule.

    >>> bound = epsilon_lower_bound(np.arange(128) + 1000.0, np.arange(128.0))
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, detects {bound.detectable:.2f}")
    2.79 of 2.82, detects 0.68

    References:
      Jagielski et al., "Auditing Differentially Private Machine Learning", arXiv 2006.07709.
    """
    positive, negative = check_scores("positive", positive), check_scores("negative", negative)
    check_levels(alpha=alpha, power=power)
    check_delta(delta)
    check(rule in get_args(Rule), "rule", repr(rule), f"one of {', '.join(get_args(Rule))}")
    if (rule == "threshold") != (threshold is not None):
        remedy = "give a threshold if, and only if, `rule` is 'threshold'"
        raise InputError("threshold", f"is {threshold} and `rule` is {rule!r}", remedy)
    if rule != "bonferroni":
        if threshold is None:
            positive, negative, threshold = _split(positive, negative, alpha, delta, mirror, seed)
        tp, fp = int(np.sum(positive >= threshold)), int(np.sum(negative >= threshold))
        tests, fewest_tests = 1, 1
    else:
        fp, tp = roc_hull(positive, negative)
        # Two separated samples, or a score of 0 and 1, have a hull of three corners.
        tests, fewest_tests = len(fp), 3
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
    """Return the largest epsilon, in nats, that so many scores can certify at one threshold.

    With rule `"split"`, count the half that gives the bound.

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
    r"""Return the smallest epsilon, in nats, with a bound above 0 with probability `power`.

    For randomised response at one threshold, see `Bound`. Its true positives are Bin(P, q) and its
    false ones Bin(N, 1 - q) with $q = e^\varepsilon / (1 + e^\varepsilon)$; the probability of
    $TPR_L - \delta > FPR_U$ is summed exactly. Infinite if even q = 1 gives no evidence.

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
    r"""Return a lower bound on mu of Gaussian differential privacy, from scores `[P]` and `[N]`.

    $\max_t [\Phi^{-1}(1 - FPR_U) - \Phi^{-1}(FNR_U)]$ over the corners of the ROC hull, alpha
    divided over both limits of all of them; 0 at least. Valid if the leakage is Gaussian, as with
    noise added to gradients. jax-privacy 2.0.0 takes the absolute value, which finds evidence in
    noise.

    Raises:
      InputError: see `epsilon_lower_bound`.

    References:
      Nasr et al., "Tight Auditing of Differentially Private Machine Learning", arXiv 2302.07956.
    """
    positive, negative = check_scores("positive", positive), check_scores("negative", negative)
    check_levels(alpha=alpha)
    fp, tp = roc_hull(positive, negative)
    level = alpha / (2 * len(fp))
    fpr_high = clopper_pearson(fp, len(negative), level, "upper")
    tpr_low = clopper_pearson(tp, len(positive), level, "lower")
    use = (fpr_high < 1) & (tpr_low > 0)
    mu = -special.ndtri(fpr_high[use]) + special.ndtri(tpr_low[use])
    return float(np.max(mu, initial=0.0))


def gdp_epsilon(mu: float, delta: float) -> float:
    r"""Return the smallest epsilon, in nats, such that mu-GDP implies (epsilon, delta)-DP.

    $\delta(\varepsilon) = \Phi(-\varepsilon/\mu + \mu/2) - e^\varepsilon \Phi(-\varepsilon/\mu -
    \mu/2)$.

    >>> round(gdp_epsilon(1.0, 1e-5), 3)
    4.377

    References:
      Dong, Roth & Su, "Gaussian Differential Privacy", arXiv 1905.02383, Corollary 2.13.
    """
    check(0 <= mu < np.inf, "mu", mu, "0 or more")
    check_levels(delta=delta)
    return last_true(lambda epsilon: _log_gdp_delta(epsilon, mu) > np.log(delta))


def gdp_mu(epsilon: float, delta: float) -> float:
    """Return the largest mu such that mu-GDP implies (epsilon, delta)-DP; inverts `gdp_epsilon`.

    >>> round(gdp_mu(4.377, 1e-5), 3)
    1.0
    """
    check(0 <= epsilon < np.inf, "epsilon", epsilon, "0 or more")
    check_levels(delta=delta)
    return last_true(lambda mu: _log_gdp_delta(epsilon, mu) <= np.log(delta))


def last_true(holds: Callable[[float], bool], *, most: float = np.inf) -> float:
    """Return where `holds` turns from true to false above 0, by bisection.

    0 if it does not hold at 0; infinite if it still holds at `most`.
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


def _check_sizes(n_positive: int, n_negative: int) -> None:
    check(n_positive >= 1, "n_positive", n_positive, "at least 1 score")
    check(n_negative >= 1, "n_negative", n_negative, "at least 1 score")


def _split(
    positive: np.ndarray, negative: np.ndarray, alpha: float, delta: float, mirror: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return one half of each sample, and the threshold whose bound is best on the other."""
    for name, sample in (("positive", positive), ("negative", negative)):
        if len(sample) < 2:
            raise InputError(name, "has 1 score", "give 2 or more to split, or another `rule`")
    rng = np.random.default_rng(seed)
    (choose_in, positive), (choose_out, negative) = (
        np.split(rng.permutation(sample), [len(sample) // 2]) for sample in (positive, negative)
    )
    thresholds = np.unique(np.concatenate([choose_in, choose_out]))
    tp, fp = counts_above(thresholds, choose_in, choose_out)
    bounds = _bounds(tp, fp, (len(choose_in), len(choose_out)), alpha, delta, mirror)
    return positive, negative, float(thresholds[np.argmax(bounds)])


def _bounds(
    tp: Array | int,
    fp: Array | int,
    sizes: tuple[int, int],
    alpha: float,
    delta: float,
    mirror: bool,
) -> np.ndarray:
    """Return the bound at each threshold; below 0 or -inf without evidence."""
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
