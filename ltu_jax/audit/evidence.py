r"""What pools of networks say of single examples: the evidence of an audit.

Two questions, each with networks on both sides:

* `coin_attack`: was this example trained on and then forgotten, or never seen? The networks went
  through the same unlearning and differ by fair coins alone, so exact unlearning leaves nothing to
  be found, whatever else unlearning did to them.
* `told_apart`: was this network unlearned or retrained? Here every difference counts, also damage
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


def coin_attack(
    first: Array, second: Array, coins: Array, couples: Array, *, alpha: float, seed: int = 0
) -> dict[str, Any]:
    """Rate membership scores of pairs, of which a coin put one into training.

    Args:
      first: `[M, m]` scores of the pairs' first examples; higher means "was trained on".
      second: `[M, m]` of the second ones.
      coins: `[M, m]` booleans, True where the first was trained on.
      couples: `[M]`, equal for networks with a common seed and opposite coins.
      alpha: of intervals and bounds.
      seed: of the bootstrap.

    Returns:
      In percent `auc` with its interval over couples, `tpr_1` and `tpr_01` (at 1 and 0.1 % FPR)
      with `negatives`, `worst_1` and `worst_5` (mean AUC of the examples most at risk, chosen on
      other couples); `right`, the share of right guesses on the surer half of the pairs, its
      `p_value` over couples; `one_run` and `group`, the bounds of the median network; `swap`, the
      SWAP difference, mean over couples.
    """
    scores = np.concatenate([first, second], axis=1)
    included = np.concatenate([coins, ~coins], axis=1)
    rows = np.broadcast_to(couples[:, None], scores.shape)
    interval = roc.bootstrap_auc(
        scores[included],
        scores[~included],
        positive_groups=rows[included],
        negative_groups=rows[~included],
        draws=300,
        seed=seed,
        alpha=alpha,
    )
    summary = per_example.summarise(scores, included)
    guesses = max(1, first.shape[1] // 2)
    right = np.array(
        [
            one_run.count_correct(one_run.guess(a, b, guesses), coin)
            for a, b, coin in zip(first, second, coins, strict=True)
        ]
    )
    per_couple = _mean_by(right / guesses, couples)
    median = int(np.median(right))
    return {
        "auc": 100 * interval.estimate,
        "auc_interval": [100 * interval.low, 100 * interval.high],
        "tpr_1": 100 * summary.tpr_1,
        "tpr_01": 100 * summary.tpr_01,
        "negatives": int(np.sum(~included)),
        **{
            f"worst_{round(100 * share)}": 100
            * per_example.worst_auc(scores, included, couples, share)
            for share in WORST
        },
        "right": 100 * float(np.mean(per_couple)),
        "p_value": _above_half(per_couple),
        "guesses": guesses,
        "one_run": one_run.one_run_bound(first.shape[1], guesses, median, alpha=alpha),
        "group": one_run.group_one_run(median, guesses, alpha=alpha),
        "seen_by_all": one_run.one_run_bound(
            len(per_couple) * first.shape[1],
            len(per_couple) * guesses,
            round(len(per_couple) * guesses * float(np.mean(per_couple))),
            alpha=alpha,
        ),
        "swap": _swap(first, second, coins, couples),
    }


def told_apart(
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
        "networks": min(map(len, scores)),
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


def _above_half(per_couple: Array) -> float:
    """One-sided p-value of a mean share of right guesses above 1/2, over couples."""
    if np.ptp(per_couple) == 0:
        return 1.0 if per_couple[0] <= 0.5 else 0.0
    return float(scipy.stats.ttest_1samp(per_couple, 0.5, alternative="greater").pvalue)


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


def _mean_by(values: Array, groups: Array) -> Array:
    names, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, values) / np.bincount(index, minlength=len(names))


def _log_normal(values: Array, sample: Array) -> Array:
    spread = np.maximum(sample.std(0, ddof=1), 1e-6)
    return scipy.stats.norm.logpdf(values, sample.mean(0), spread)
