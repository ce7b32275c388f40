r"""What pools of networks say of single examples: the evidence of an audit.

Two questions, each with networks on both sides:

* `attack_membership`: was this example trained on and then unlearned, or never seen? The models
  differ by their inclusion bits alone, so exact unlearning leaves no trace of them.
* `distinguish`: was this network unlearned or retrained? Here every difference counts, also damage
  to what was to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit import distances, one_run, per_example, roc
from ltu_jax.audit.bounds import holm
from ltu_jax.audit.epsilon import Bound, epsilon_lower_bound

Array = np.ndarray
WORST = (0.01, 0.05)
POWER = 0.8


class Evidence(NamedTuple):
    """One test of exact unlearning.

    Attributes:
      name: of the attack.
      shares: what it has in common with the method's own membership models; empty if nothing. What
        a method was trained against cannot speak for it.
      p_value: chance of as much or more under exact unlearning.
      finding: the number that the test is about, in words.
      bound: on epsilon, see `epsilon.Bound`.
      adjusted: the p-value after Holm's correction over all tests that count; None for others.
    """

    name: str
    shares: str
    p_value: float
    finding: str
    bound: Bound
    adjusted: float | None = None


def attack_membership(
    scores: Array, halved: Array, coins: Array, couples: Array, *, alpha: float
) -> dict[str, Any]:
    """Rate membership scores of m pairs, of which a coin put one into training.

    Args:
      scores: `[M, 2m]`, of the pairs' first examples and then of the second ones; higher means "was
        trained on". Each network is judged by all other couples.
      halved: `[M, 2m]`, the same from the other couples of its half alone; they choose the examples
        most at risk.
      coins: `[M, m]` booleans, True where the first was trained on.
      couples: `[M]`, equal for the two networks of a seed, whose coins are opposite.
      alpha: of intervals and bounds.

    Returns:
      In percent: `auc`, how often the network that was trained on an example scores it higher than
      the other of its couple does, with its interval and the two-sided `p_value` over pairs, whose
      coins are independent; `worst_1` and `worst_5`, the same for the examples most at risk, chosen
      on other couples; `tpr_1` and `tpr_01` (at 1 and 0.1 % FPR, all scores pooled) with
      `negatives`; `guess_accuracy`, the share of right `guesses` on half of a model's pairs.
      `bound` is that on epsilon from `auc`, `one_run` and `group` those of the median network;
      `swap` is the SWAP difference, mean over couples.
    """
    included = np.concatenate([coins, ~coins], axis=1)
    summary = per_example.summarise(scores, included, couples)
    wins = summary.example_auc.reshape(2, -1).mean(0)  # both examples of a pair share its coin
    error = float(scipy.stats.sem(wins)) if len(wins) > 1 else float("inf")
    reach = error * float(scipy.stats.norm.isf(alpha / 2))
    first, second = np.split(scores, 2, axis=1)
    num_pairs = first.shape[1]
    guesses = max(1, num_pairs // 2)
    right = np.array(
        [
            one_run.count_correct(one_run.guess(a, b, guesses), coin)
            for a, b, coin in zip(first, second, coins, strict=True)
        ]
    )
    median = int(np.median(right))
    return {
        "auc": 100 * float(wins.mean()),
        "auc_interval": [100 * (float(wins.mean()) + side * reach) for side in (-1, 1)],
        "p_value": _off_half(wins),
        **{
            f"worst_{round(100 * share)}": 100
            * per_example.worst_auc(scores, included, couples, share, select=halved)
            for share in WORST
        },
        "tpr_1": 100 * summary.tpr_1,
        "tpr_01": 100 * summary.tpr_01,
        "negatives": summary.negatives,
        "guess_accuracy": 100 * float(right.mean()) / guesses,
        "guesses": guesses,
        "bound": _win_bound(wins, error, alpha),
        "one_run": one_run.one_run_bound(num_pairs, guesses, median, alpha=alpha),
        "group": one_run.group_one_run(median, guesses, alpha=alpha),
        "swap": _swap(first, second, coins, couples),
    }


def distinguish(
    unlearned: Array, retrained: Array, *, alpha: float, seed: int = 0
) -> dict[str, Any]:
    """Tell unlearned from retrained networks by the margins `[N, n]` of n examples.

    A random half of the networks of both sides teaches the attack two Gaussians an example; a
    network of the other half is called unlearned where their likelihood ratio, summed over the
    examples, is above 0. Nothing of the second half takes part in a choice, so the bound holds.

    Returns:
      In percent `auc` over networks, `p_value` (Mann-Whitney, one-sided) and `bound` on epsilon;
      `shift`, how much higher the mean margin is than of retrained networks, in their standard
      deviations, and its two-sided `shift_p`; `klom` with its floor, see `klom`.
    """
    rng = np.random.default_rng(seed)
    scores = []
    halves = [
        np.array_split(side[rng.permutation(len(side))], 2) for side in (unlearned, retrained)
    ]
    (taught_in, told_in), (taught_out, told_out) = halves
    for told in (told_in, told_out):
        ratio = _log_normal(told, taught_in) - _log_normal(told, taught_out)
        scores.append(ratio.sum(1))
    means = unlearned.mean(1), retrained.mean(1)
    return {
        "auc": 100 * roc.auc(*scores),
        "p_value": float(scipy.stats.mannwhitneyu(*scores, alternative="greater").pvalue),
        "bound": epsilon_lower_bound(*scores, alpha=alpha, rule="threshold", threshold=0.0),
        "models": min(map(len, scores)),
        "shift": float((means[0].mean() - means[1].mean()) / means[1].std(ddof=1)),
        "shift_p": float(scipy.stats.ttest_ind(*means, equal_var=False).pvalue),
        "klom": klom(unlearned, retrained, seed=seed),
    }


def klom(unlearned: Array, retrained: Array, *, seed: int = 0) -> dict[str, float]:
    """KLoM of n examples: its mean, worst 5 % and 1 %, and what exact unlearning would give.

    `floor` and `floor_95` are mean and 95 % point of the mean KLoM when the labels "unlearned" and
    "retrained" are permuted among the networks; `p_value` is the mean's among them.
    """
    values = np.sort(distances.klom(unlearned, retrained))
    floor = distances.klom_floor(unlearned, retrained, draws=200, seed=seed)
    worst = {
        f"worst_{round(100 * share)}": float(values[-max(1, round(share * len(values))) :].mean())
        for share in WORST
    }
    return {
        "mean": float(values.mean()),
        **worst,
        "floor": floor.mean,
        "floor_95": floor.high,
        "p_value": floor.p_value,
    }


def correct(tests: list[Evidence]) -> list[Evidence]:
    """Return the tests with Holm's adjusted p-values, over those that share nothing."""
    counted = [i for i, test in enumerate(tests) if not test.shares]
    if not counted:
        return tests
    adjusted = dict(zip(counted, holm([tests[i].p_value for i in counted]), strict=True))
    return [
        test._replace(adjusted=float(adjusted[i])) if i in adjusted else test
        for i, test in enumerate(tests)
    ]


def plain_bounds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested results with their bounds as dictionaries, as JSON holds them."""
    return {
        name: value._asdict()
        if isinstance(value, Bound)
        else plain_bounds(value)
        if isinstance(value, Mapping)
        else value
        for name, value in values.items()
    }


def _off_half(wins: Array) -> float:
    """Two-sided p-value of a mean other than 1/2, over pairs: too unknown is a trace as well."""
    if np.ptp(wins) == 0:
        return 1.0 if wins[0] == 0.5 else 0.0
    return float(scipy.stats.ttest_1samp(wins, 0.5).pvalue)


def _win_bound(wins: Array, error: float, alpha: float) -> Bound:
    r"""Bound on epsilon from how often one network of two scores an example higher.

    Under (epsilon, 0)-indistinguishability no guess is right more often than
    $e^\varepsilon / (1 + e^\varepsilon)$, also one that takes the lower score for the trained
    network's. `certifiable` is for all guesses right on all pairs, `detectable` for a chance of 0.8
    at this standard error.
    """
    reach = float(scipy.stats.norm.isf(alpha / 2)) * error
    lowest = 0.5 + max(0.0, abs(float(wins.mean()) - 0.5) - reach)
    seen = 0.5 + reach - float(scipy.stats.norm.isf(POWER)) * error
    # Where hardly a guess is wrong the standard error is no guide: pairs as single guesses are.
    certifiable = _logit((alpha / 2) ** (1 / len(wins)))
    return Bound(min(_logit(lowest), certifiable), certifiable, _logit(seen))


def _logit(share: float) -> float:
    """Epsilon of a randomised response that is right so often; infinite from 1 on."""
    return max(0.0, float(scipy.special.logit(min(share, 1.0))))


def _swap(first: Array, second: Array, coins: Array, couples: Array) -> float:
    """Mean SWAP difference, in percent, over couples of two networks; NaN where there is none."""
    differences = []
    for couple in np.unique(couples):
        rows = np.flatnonzero(couples == couple)
        if len(rows) != 2:
            continue
        forgotten, unseen = zip(
            *(
                (np.where(coins[i], first[i], second[i]), np.where(coins[i], second[i], first[i]))
                for i in rows
            ),
            strict=True,
        )
        differences.append(
            one_run.swap_difference(forgotten[0], unseen[0], forgotten[1], unseen[1])
        )
    return 100 * float(np.mean(differences)) if differences else float("nan")


def _log_normal(values: Array, sample: Array) -> Array:
    spread = np.maximum(sample.std(0, ddof=1), 1e-6)
    return scipy.stats.norm.logpdf(values, sample.mean(0), spread)
