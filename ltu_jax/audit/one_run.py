r"""Audits from one training or unlearning run: many candidates, each in or out by a fair coin.

The attack guesses for `r` of `m` candidates which way the coin fell and is right for `v`. Under
(epsilon, delta)-DP a guess is right with chance $q = e^\varepsilon / (1 + e^\varepsilon)$ at most,
whatever the others are. In a pair of candidates the coin says which of both was in; epsilon is then
that of exchanging one for the other.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import special, stats

from ltu_jax.audit import epsilon as eps
from ltu_jax.audit.epsilon import Bound
from ltu_jax.errors import InputError, check_range

Array = np.ndarray


def guess(scores_first: Array, scores_second: Array, r: int) -> Array:
    """Guess which of each pair was in, `[m]`: 1 the first, -1 the second, 0 no guess.

    The one with the higher score, for the `r` pairs with the largest difference. Fix `r` before
    you see the scores. Equal scores say nothing, so for them it calls the first.

    Raises:
      InputError: scores that are no rows of one length, empty or NaN, or r outside [1, m].

    >>> guess(np.array([3.0, 0.1, 0.0]), np.array([1.0, 0.0, 5.0]), r=2).tolist()
    [1, 0, -1]
    """
    first, second = eps.check_scores(scores_first=scores_first, scores_second=scores_second)
    if len(first) != len(second):
        raise InputError(f"scores_second has length {len(second)}; give {len(first)}, the pairs")
    if not 1 <= r <= len(first):
        raise InputError(f"r is {r}; give 1 to {len(first)}, the number of pairs")
    higher = np.where(first >= second, 1, -1)
    # Infinite scores of equal sign are equal.
    distance = np.abs(np.subtract(first, second, where=first != second, out=np.zeros_like(first)))
    guesses = np.zeros(len(first), np.int64)
    chosen = np.argsort(-distance, kind="stable")[:r]
    guesses[chosen] = higher[chosen]
    return guesses


def count_correct(guesses: Array, first_was_in: Array) -> int:
    """Count `v`, how many guesses `[m]` of `guess` hit; `first_was_in` `[m]` is the coin, a bool.

    >>> count_correct(np.array([1, 0, -1]), np.array([True, True, True]))
    1
    """
    guesses, first_was_in = np.asarray(guesses), np.asarray(first_was_in)
    if guesses.shape != first_was_in.shape or first_was_in.dtype != bool:
        raise InputError(
            f"first_was_in is {first_was_in.dtype} {first_was_in.shape}; give bool {guesses.shape}"
        )
    return int(np.sum(guesses == np.where(first_was_in, 1, -1)))


def p_value(m: int, r: int, v: int, *, epsilon: float = 0.0, delta: float = 0.0) -> float:
    r"""Chance at most of `v` or more right guesses of `r` under (epsilon, delta)-DP.

    $\beta + 2 m \delta \max_i \frac1i P[v > Bin(r, q) \ge v - i]$ with $\beta = P[Bin(r, q) \ge
    v]$: Steinke, Nasr & Jagielski (arXiv 2305.08846).

    Raises:
      InputError: not 0 <= v <= r <= m, or epsilon or delta out of range.

    >>> round(p_value(100, 100, 60), 4)
    0.0284
    """
    _check_counts(m, r, v)
    check_range(SimpleNamespace(epsilon=epsilon), ("epsilon",), lambda x: x >= 0, "0 or more")
    eps.check_delta(delta)
    return _p_value(m, r, v, epsilon, delta)


def one_run_bound(
    m: int, r: int, v: int, *, alpha: float = 0.05, delta: float = 0.0, power: float = 0.8
) -> Bound:
    """Lower bound on epsilon, in nats: the largest one with a `p_value` of alpha at most, or 0.

    `detectable` is for guesses that are each right with chance e^eps / (1 + e^eps).

    Raises:
      InputError: not 0 <= v <= r <= m, r below 1, or a level or delta out of range.

    >>> bound = one_run_bound(1000, 200, 160)
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, sees {bound.detectable:.2f}")
    1.09 of 4.19, sees 0.37
    """
    _check_counts(m, r, v)
    eps.check_levels(alpha=alpha, power=power)
    eps.check_delta(delta)

    def bound(correct: int) -> float:
        return eps.last_true(lambda epsilon: _p_value(m, r, correct, epsilon, delta) <= alpha)

    return Bound(bound(v), bound(r), _detectable(m, r, alpha, delta, power))


def fdp_epsilon(m: int, r: int, v: int, *, delta: float, alpha: float = 0.05) -> float:
    """Lower bound on epsilon at `delta`, in nats, if the mechanism is Gaussian; 0 at least.

    A claim of mu-GDP is a whole trade-off curve and says more than one (epsilon, delta), so more of
    it can be refuted. The largest mu whose claim the counts refute at level alpha, as the epsilon
    of `epsilon.gdp_epsilon` (Mahloujifar, Melis & Chaudhuri, arXiv 2410.22235).

    Raises:
      InputError: not 0 <= v <= r <= m, r below 1, or alpha or delta outside (0, 1).
    """
    _check_counts(m, r, v)
    eps.check_levels(alpha=alpha, delta=delta)
    return eps.last_true(lambda epsilon: _refutes_gdp(eps.gdp_mu(epsilon, delta), m, r, v, alpha))


def group_one_run(
    v: int, r: int, *, alpha: float = 0.05, delta: float = 0.0, power: float = 0.8
) -> Bound:
    r"""Lower bound on epsilon for a *forget set as one group*, in nats, from paired guesses.

    Half of a pool was forgotten, a coin for each pair. After exact unlearning the model knows
    nothing of the coins and v is Bin(r, 1/2), so $p = P[Bin(r, 1/2) \ge v]$ is a p-value. Under
    (epsilon, delta)-unlearning of the whole group its chance to be t or less is at most
    $e^\varepsilon t + \delta$, whence $\varepsilon_{LB} = \ln((\alpha - \delta) / p)$. The bound
    is of the group's epsilon, which may be large where that of one example is small.

    `detectable`: an epsilon can raise the chance of evidence to at most $e^\varepsilon p^*$, where
    p* is its chance under exact unlearning, and lower the chance of none to at least
    $e^{-\varepsilon} (1 - p^*)$; the smallest epsilon that allows the chance `power`.

    Raises:
      InputError: not 0 <= v <= r, r below 1, a level out of range, or delta not below alpha.

    >>> bound = group_one_run(70, 100)
    >>> print(f"{bound.epsilon:.2f} of {bound.certifiable:.2f}, sees {bound.detectable:.2f}")
    7.15 of 66.32, sees 2.89
    """
    _check_counts(r, r, v)
    eps.check_levels(alpha=alpha, power=power)
    given = SimpleNamespace(delta=delta)
    check_range(given, ("delta",), lambda x: 0 <= x < alpha, f"0 or more and below alpha, {alpha}")
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
    """SWAP advantage in [0, 1]: of two runs in which the forget and test halves change roles.

    Run `a` forgets the first half and never sees the second, run `b` the other way round. At each
    threshold take the mean of both runs' TPR - FPR; the result is the largest absolute value (Tu,
    Hu & Ma, arXiv 2404.11577). A model that does not depend on the roles, such as one retrained
    model used for both, gives exactly 0 however unlike the halves are: what the halves differ by
    cancels.

    Raises:
      InputError: scores that are no row, empty or NaN.

    >>> old, new = np.array([0.0, 2.0]), np.array([1.0, 7.0])
    >>> swap_difference(old, new, new, old), swap_difference(new, old, new, old)
    (0.0, 0.5)
    """
    rows = eps.check_scores(
        scores_forget_a=scores_forget_a,
        scores_test_a=scores_test_a,
        scores_forget_b=scores_forget_b,
        scores_test_b=scores_test_b,
    )
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
    # The chance of v - i, ..., v - 1 right guesses, for every i.
    just_below = np.cumsum(stats.binom.pmf(v - i, r, q))
    return float(min(1.0, beta + 2 * m * delta * np.max(just_below / i)))


def _detectable(m: int, r: int, alpha: float, delta: float, power: float) -> float:
    """Return the smallest epsilon at which Bin(r, q) gives evidence with chance `power`."""
    low, fewest = -1, r + 1  # of the right guesses that are evidence; the p-value falls with v
    while fewest - low > 1:
        middle = (low + fewest) // 2
        if _p_value(m, r, middle, 0.0, delta) <= alpha:
            fewest = middle
        else:
            low = middle
    return eps.last_true(
        lambda epsilon: stats.binom.sf(fewest - 1, r, special.expit(epsilon)) < power, most=100.0
    )


def _refutes_gdp(mu: float, m: int, r: int, v: int, alpha: float) -> bool:
    """Whether v right of r guesses refute mu-GDP: the recursion of arXiv 2410.22235.

    Suppose that v or more are right with chance alpha. Then `right` and `wrong` are at least the
    expected shares, of m, of right and of wrong guesses on the event that `i` or more are right.
    The trade-off curve makes them grow from i = v down to 0, where together they are r / m in
    truth. If they come out larger, the supposition is false and v refutes the claim.
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
    given = SimpleNamespace(r=r, v=v)
    check_range(given, ("r",), lambda x: 1 <= x <= m, f"1 to m ({m}) guesses")
    check_range(given, ("v",), lambda x: 0 <= x <= r, f"0 to r ({r}) right guesses")
