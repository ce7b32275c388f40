r"""Audits from one training or unlearning run: many candidates, each included by a fair bit.

The attack guesses the inclusion bit of `r` of `m` candidates and is right for `v`. Under
(epsilon, delta)-DP a guess is right with probability $q = e^\varepsilon / (1 + e^\varepsilon)$ at
most, whatever the others are. For matched canary pairs the bit selects one example of the pair, and
epsilon is that of exchanging one for the other.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from ltu_jax.audit.checks import check, check_delta, check_levels, check_scores
from ltu_jax.audit.epsilon import Bound, gdp_mu, last_true
from ltu_jax.errors import InputError
from ltu_jax.types import Array


def guess_inclusion(scores_first: Array, scores_second: Array, r: int) -> np.ndarray:
    """Guess which example of each pair was included, `[m]`: 1 the first, -1 the second, 0 no guess.

    Guesses are the higher score, for the `r` pairs with the largest difference; the first of equal
    scores. Fix `r` before you see the scores.

    Raises:
      InputError: invalid scores, two lengths, or r outside [1, m].

    >>> guess_inclusion(np.array([3.0, 0.1, 0.0]), np.array([1.0, 0.0, 5.0]), r=2).tolist()
    [1, 0, -1]
    """
    first = check_scores("scores_first", scores_first)
    second = check_scores("scores_second", scores_second)
    if len(first) != len(second):
        raise InputError("scores_second", f"has length {len(second)}", f"give {len(first)}")
    check(1 <= r <= len(first), "r", r, f"1 to {len(first)}, the number of pairs")
    higher = np.where(first >= second, 1, -1)
    # Infinite scores of equal sign are equal.
    distance = np.abs(np.subtract(first, second, where=first != second, out=np.zeros_like(first)))
    guesses = np.zeros(len(first), np.int64)
    chosen = np.argsort(-distance, kind="stable")[:r]
    guesses[chosen] = higher[chosen]
    return guesses


def count_correct(guesses: Array, inclusion: Array) -> int:
    """Count `v`, the right guesses of `guess_inclusion`; the inclusion bits are booleans `[m]`.

    >>> count_correct(np.array([1, 0, -1]), np.array([True, True, True]))
    1
    """
    guesses, inclusion = np.asarray(guesses), np.asarray(inclusion)
    if guesses.shape != inclusion.shape or inclusion.dtype != bool:
        found = f"is {inclusion.dtype} of shape {inclusion.shape}"
        raise InputError("inclusion", found, f"give booleans of shape {guesses.shape}")
    return int(np.sum(guesses == np.where(inclusion, 1, -1)))


def one_run_p_value(m: int, r: int, v: int, *, epsilon: float = 0.0, delta: float = 0.0) -> float:
    r"""Bound the probability of `v` or more right guesses of `r` under (epsilon, delta)-DP.

    $\beta + 2 m \delta \max_i \frac1i P[v > Bin(r, q) \ge v - i]$ with $\beta = P[Bin(r, q) \ge
    v]$.

    Raises:
      InputError: not 0 <= v <= r <= m, or epsilon or delta out of range.

    >>> round(one_run_p_value(100, 100, 60), 4)
    0.0284

    References:
      Steinke, Nasr & Jagielski, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846.
    """
    _check_counts(m, r, v)
    check(epsilon >= 0, "epsilon", epsilon, "0 or more")
    check_delta(delta)
    return _p_value(m, r, v, epsilon, delta)


def one_run_bound(
    m: int, r: int, v: int, *, alpha: float = 0.05, delta: float = 0.0, power: float = 0.8
) -> Bound:
    """Return the largest epsilon, in nats, with a `one_run_p_value` of alpha at most, or 0.

    `detectable` is for guesses that are each right with probability e^eps / (1 + e^eps).

    Raises:
      InputError: not 0 <= v <= r <= m, r below 1, or a level or delta out of range.

    >>> bound = one_run_bound(1000, 200, 160)
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, detects {bound.detectable:.2f}")
    1.09 of 4.19, detects 0.37
    """
    _check_counts(m, r, v)
    check_levels(alpha=alpha, power=power)
    check_delta(delta)

    def bound(correct: int) -> float:
        return last_true(lambda epsilon: _p_value(m, r, correct, epsilon, delta) <= alpha)

    return Bound(bound(v), bound(r), _detectable(m, r, alpha, delta, power))


def fdp_epsilon(m: int, r: int, v: int, *, delta: float, alpha: float = 0.05) -> float:
    """Return a lower bound on epsilon at `delta`, in nats, for a Gaussian mechanism; 0 at least.

    mu-GDP is a whole trade-off curve, a stronger claim than one (epsilon, delta), and easier to
    refute. The bound is the largest mu that the counts refute at level alpha, as `gdp_epsilon`.

    Raises:
      InputError: not 0 <= v <= r <= m, r below 1, or alpha or delta outside (0, 1).

    References:
      Mahloujifar, Melis & Chaudhuri, "Auditing f-Differential Privacy in One Run",
      arXiv 2410.22235.
    """
    _check_counts(m, r, v)
    check_levels(alpha=alpha, delta=delta)
    return last_true(lambda epsilon: _refutes_gdp(gdp_mu(epsilon, delta), m, r, v, alpha))


def group_bound(
    v: int, r: int, *, alpha: float = 0.05, delta: float = 0.0, power: float = 0.8
) -> Bound:
    r"""Return a lower bound on the epsilon of a *forget set as one group*, in nats.

    One example of each pair was unlearned. After exact unlearning the model does not depend on the
    inclusion bits and v is Bin(r, 1/2), so $p = P[Bin(r, 1/2) \ge v]$ is a p-value. Under (epsilon,
    delta)-unlearning of the whole group, $P[p \le t] \le e^\varepsilon t + \delta$, whence
    $\varepsilon_{LB} = \ln((\alpha - \delta) / p)$. A group's epsilon may be large although that of
    every example is small.

    `detectable` is the smallest epsilon that allows evidence with probability `power`. If p* is its
    probability under exact unlearning, epsilon raises it to at most $e^\varepsilon p^*$ and lowers
    that of no evidence to at least $e^{-\varepsilon} (1 - p^*)$.

    Raises:
      InputError: not 0 <= v <= r, r below 1, a level out of range, or delta not below alpha.

    >>> bound = group_bound(70, 100)
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, detects {bound.detectable:.2f}")
    7.15 of 66.32, detects 2.89
    """
    _check_counts(r, r, v)
    check_levels(alpha=alpha, power=power)
    check(0 <= delta < alpha, "delta", delta, f"0 or more and below `alpha`, {alpha}")
    # Summed from the top in logarithms: `logsf` is -inf for the tails of many guesses.
    log_chances = stats.binom.logpmf(np.arange(r + 1), r, 0.5)
    log_tails = np.logaddexp.accumulate(log_chances[::-1])[::-1]
    bounds = np.log(alpha - delta) - log_tails
    chance = np.exp(np.max(log_tails[bounds > 0], initial=-np.inf))
    detectable = np.inf
    if chance > 0:
        detectable = max(np.log(power / chance), np.log((1 - chance) / (1 - power)), 0.0)
    epsilon, certifiable = (max(0.0, float(bounds[correct])) for correct in (v, r))
    return Bound(epsilon, certifiable, float(detectable))


def swap_difference(
    scores_forget_a: Array, scores_test_a: Array, scores_forget_b: Array, scores_test_b: Array
) -> float:
    """Return the SWAP advantage, in [0, 1], of two runs that exchange forget and test halves.

    Run `a` unlearns the first half and never sees the second; run `b` the other way round. The
    advantage is the largest absolute value over thresholds of the mean TPR - FPR of both runs. It
    is exactly 0 if the model is the same in both runs, however different the halves are.

    Raises:
      InputError: invalid scores.

    >>> old, new = np.array([0.0, 2.0]), np.array([1.0, 7.0])
    >>> swap_difference(old, new, new, old), swap_difference(new, old, new, old)
    (0.0, 0.5)

    References:
      Tu, Hu & Ma, arXiv 2404.11577.
    """
    named = {
        "scores_forget_a": scores_forget_a,
        "scores_test_a": scores_test_a,
        "scores_forget_b": scores_forget_b,
        "scores_test_b": scores_test_b,
    }
    rows = [check_scores(name, scores) for name, scores in named.items()]
    thresholds = np.unique(np.concatenate(rows))
    forget_a, test_a, forget_b, test_b = (
        1 - np.searchsorted(np.sort(row), thresholds) / len(row) for row in rows
    )
    return float(np.max(np.abs((forget_a - test_a) + (forget_b - test_b)))) / 2


def _p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    q = special.expit(epsilon)
    beta = stats.binom.sf(v - 1, r, q)
    if delta == 0 or v == 0:
        return float(beta)
    i = np.arange(1, v + 1)
    # The probability of v - i, ..., v - 1 right guesses, for every i.
    just_below = np.cumsum(stats.binom.pmf(v - i, r, q))
    return float(min(1.0, beta + 2 * m * delta * np.max(just_below / i)))


def _detectable(m: int, r: int, alpha: float, delta: float, power: float) -> float:
    """Return the smallest epsilon at which Bin(r, q) gives evidence with probability `power`."""
    low, fewest = -1, r + 1  # of the right guesses that are evidence; the p-value falls with v
    while fewest - low > 1:
        middle = (low + fewest) // 2
        if _p_value(m, r, middle, 0.0, delta) <= alpha:
            fewest = middle
        else:
            low = middle
    return last_true(
        lambda epsilon: bool(stats.binom.sf(fewest - 1, r, special.expit(epsilon)) < power),
        most=100.0,
    )


def _refutes_gdp(mu: float, m: int, r: int, v: int, alpha: float) -> bool:
    """Whether v right of r guesses refute mu-GDP: the recursion of arXiv 2410.22235.

    Suppose that v or more are right with probability alpha. Then `right` and `wrong` bound from
    below the expected shares, of m, of right and wrong guesses given that `i` or more are right.
    From i = v down to 0 the trade-off curve makes them grow to r / m in total. A larger total
    contradicts the supposition, so v refutes the claim.
    """
    right, wrong = alpha * v / m, alpha * (r - v) / m
    for i in range(v - 1, -1, -1):
        at_least = float(special.ndtr(special.ndtri(right) - mu))
        if at_least <= wrong:
            break  # neither can change any more
        right = min(1.0, right + i / (r - i) * (at_least - wrong))
        wrong = at_least
    return right + wrong > r / m


def _check_counts(m: int, r: int, v: int) -> None:
    check(1 <= r <= m, "r", r, f"1 to `m` ({m}) guesses")
    check(0 <= v <= r, "v", v, f"0 to `r` ({r}) right guesses")
