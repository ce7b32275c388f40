"""Tests of exact unlearning on ensembles, from membership scores and margins.

* `attack_membership`: was this example trained on and then unlearned, or never seen? The models
  differ by their inclusion bits alone, so exact unlearning leaves no trace of them, whatever else
  unlearning did.
* `distinguish`: was this model unlearned or retrained? Every difference counts, damage included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit import one_run
from ltu_jax.audit.bounds import holm
from ltu_jax.audit.distances import klom, klom_floor
from ltu_jax.audit.epsilon import Bound, epsilon_lower_bound
from ltu_jax.audit.per_example import summarise_scores, worst_auc
from ltu_jax.audit.roc import roc_auc
from ltu_jax.types import Array

WORST = (0.01, 0.05)
POWER = 0.8


class Evidence(NamedTuple):
    """One test of exact unlearning.

    Attributes:
      name: of the attack.
      shares: features that it shares with the method's membership models, empty if none. A test
        that the method was trained against does not count as evidence for the method.
      p_value: probability of a result at least as extreme under exact unlearning.
      finding: the test's statistic, as text.
      bound: on epsilon.
      adjusted: p-value after Holm's correction over the counted tests; None for others.
    """

    name: str
    shares: str
    p_value: float
    finding: str
    bound: Bound
    adjusted: float | None = None


def attack_membership(
    scores: Array, halved: Array, inclusion: Array, model_pairs: Array, *, alpha: float
) -> dict[str, Any]:
    """Rate membership scores of m matched canary pairs.

    Args:
      scores: `[M, 2m]`, of the pairs' first and then their second examples; higher means "was
        trained on". References are all other model pairs.
      halved: `[M, 2m]`, the same with references of the same half only; they select the examples
        most at risk.
      inclusion: `[M, m]` booleans, True where the first example was trained on.
      model_pairs: `[M]` labels, equal for two models with opposite inclusion bits.
      alpha: level of intervals and bounds.

    Returns:
      In percent: `auc`, how often the model that was trained on an example scores it higher than
      its paired model does, with `auc_interval` and a two-sided `p_value` over canary pairs, whose
      bits are independent; `worst_1` and `worst_5`, the same for the examples most at risk,
      selected on other models; `tpr_1` and `tpr_01` (at 1 and 0.1 % FPR, all scores together) with
      `negatives`; `guess_accuracy` of the `guesses` on half of a model's pairs; `swap`, the mean
      SWAP difference. Bounds on epsilon: `bound` from `auc`, `one_run` and `group` from the median
      model.
    """
    included = np.concatenate([inclusion, ~inclusion], axis=1)
    summary = summarise_scores(scores, included, model_pairs)
    wins = summary.example_auc.reshape(2, -1).mean(0)  # both examples of a pair share its bit
    error = float(scipy.stats.sem(wins)) if len(wins) > 1 else float("inf")
    reach = error * float(scipy.stats.norm.isf(alpha / 2))
    first, second = np.split(scores, 2, axis=1)
    num_pairs = first.shape[1]
    guesses = max(1, num_pairs // 2)
    right = np.array(
        [
            one_run.count_correct(one_run.guess_inclusion(a, b, guesses), bits)
            for a, b, bits in zip(first, second, inclusion, strict=True)
        ]
    )
    median = int(np.median(right))
    return {
        "auc": 100 * float(wins.mean()),
        "auc_interval": [100 * (float(wins.mean()) + side * reach) for side in (-1, 1)],
        "p_value": _off_half(wins),
        **{
            f"worst_{round(100 * share)}": 100
            * worst_auc(scores, included, model_pairs, share, select=halved)
            for share in WORST
        },
        "tpr_1": 100 * summary.tpr_1,
        "tpr_01": 100 * summary.tpr_01,
        "negatives": summary.negatives,
        "guess_accuracy": 100 * float(right.mean()) / guesses,
        "guesses": guesses,
        "bound": _win_bound(wins, error, alpha),
        "one_run": one_run.one_run_bound(num_pairs, guesses, median, alpha=alpha),
        "group": one_run.group_bound(median, guesses, alpha=alpha),
        "swap": _swap(first, second, inclusion, model_pairs),
    }


def distinguish(
    unlearned: Array, retrained: Array, *, alpha: float, seed: int = 0
) -> dict[str, Any]:
    """Distinguish unlearned from retrained models by the margins `[N, n]` of n examples.

    One Gaussian per example and side is fitted on a random half of the models. The other half is
    classified by the log-likelihood ratio, summed over examples, at threshold 0. The halves are
    disjoint, so the bound is valid.

    Returns:
      `auc` over models, in percent; `p_value` (Mann-Whitney, one-sided); `bound` on epsilon;
      `models`, the smaller number of classified models a side; `shift` of the mean margin, in
      standard deviations of retrained models, with its two-sided `shift_p`; `klom`, see
      `summarise_klom`.
    """
    rng = np.random.default_rng(seed)
    scores = []
    halves = [
        np.array_split(side[rng.permutation(len(side))], 2) for side in (unlearned, retrained)
    ]
    (fit_in, test_in), (fit_out, test_out) = halves
    for margins in (test_in, test_out):
        ratio = _log_normal(margins, fit_in) - _log_normal(margins, fit_out)
        scores.append(ratio.sum(1))
    means = unlearned.mean(1), retrained.mean(1)
    return {
        "auc": 100 * roc_auc(*scores),
        "p_value": float(scipy.stats.mannwhitneyu(*scores, alternative="greater").pvalue),
        "bound": epsilon_lower_bound(*scores, alpha=alpha, rule="threshold", threshold=0.0),
        "models": min(map(len, scores)),
        "shift": float((means[0].mean() - means[1].mean()) / means[1].std(ddof=1)),
        "shift_p": float(scipy.stats.ttest_ind(*means, equal_var=False).pvalue),
        "klom": summarise_klom(unlearned, retrained, seed=seed),
    }


def summarise_klom(unlearned: Array, retrained: Array, *, seed: int = 0) -> dict[str, float]:
    """Return KLoM's mean over examples, its worst 5 % and 1 %, and its permutation test.

    `floor` and `floor_95` are mean and 95 % quantile of the mean KLoM under permutations of the
    labels "unlearned" and "retrained"; `p_value` is that of the observed mean.
    """
    values = np.sort(klom(unlearned, retrained))
    floor = klom_floor(unlearned, retrained, draws=200, seed=seed)
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
    """Return the tests with Holm's adjusted p-values over those without shared features."""
    counted = [i for i, test in enumerate(tests) if not test.shares]
    if not counted:
        return tests
    adjusted = dict(zip(counted, holm([tests[i].p_value for i in counted]), strict=True))
    return [
        test._replace(adjusted=float(adjusted[i])) if i in adjusted else test
        for i, test in enumerate(tests)
    ]


def plain_bounds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested results with every `Bound` as a dictionary."""
    return {
        name: value._asdict()
        if isinstance(value, Bound)
        else plain_bounds(value)
        if isinstance(value, Mapping)
        else value
        for name, value in values.items()
    }


def _off_half(wins: Array) -> float:
    """Two-sided p-value of a mean other than 1/2, over pairs: over-unlearning is a trace too."""
    if np.ptp(wins) == 0:
        return 1.0 if wins[0] == 0.5 else 0.0
    return float(scipy.stats.ttest_1samp(wins, 0.5).pvalue)


def _win_bound(wins: Array, error: float, alpha: float) -> Bound:
    r"""Bound epsilon by how often one of two paired models scores an example higher.

    Under (epsilon, 0)-indistinguishability every guess, the reversed one included, is right with
    probability at most $e^\varepsilon / (1 + e^\varepsilon)$. `certifiable` is for right guesses on
    all pairs, `detectable` for probability 0.8 at this standard error.
    """
    reach = float(scipy.stats.norm.isf(alpha / 2)) * error
    lowest = 0.5 + max(0.0, abs(float(wins.mean()) - 0.5) - reach)
    seen = 0.5 + reach - float(scipy.stats.norm.isf(POWER)) * error
    # If nearly all guesses are right the standard error is unreliable; one guess per pair is not.
    certifiable = _logit((alpha / 2) ** (1 / len(wins)))
    return Bound(min(_logit(lowest), certifiable), certifiable, _logit(seen))


def _logit(share: float) -> float:
    """Epsilon of a randomised response that is right with this probability; infinite from 1 on."""
    return max(0.0, float(scipy.special.logit(min(share, 1.0))))


def _swap(first: Array, second: Array, inclusion: Array, model_pairs: Array) -> float:
    """Mean SWAP difference, in percent, over pairs of models; NaN without pairs."""
    differences = []
    for pair in np.unique(model_pairs):
        rows = np.flatnonzero(model_pairs == pair)
        if len(rows) != 2:
            continue
        forgotten, unseen = zip(
            *(
                (np.where(bits, first[i], second[i]), np.where(bits, second[i], first[i]))
                for i, bits in zip(rows, inclusion[rows], strict=True)
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
