r"""Membership attacks on single examples, and what their scores say; all rates are fractions.

Scores `[M, n]` are of M models and n examples; `included` is True where the model (row) was trained
on the example (column). A higher score means "was trained on". The attacks are in `lira` and
`rmia`, and can be had from here as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from ltu_jax.audit import roc
from ltu_jax.audit.lira import leave_out, lira, lira_released
from ltu_jax.audit.references import check_booleans, check_counts, half_of, judges
from ltu_jax.audit.rmia import leave_out_rmia, rmia, tune_offline_a
from ltu_jax.errors import InputError

__all__ = [
    "Summary",
    "example_auc",
    "leave_out",
    "leave_out_rmia",
    "lira",
    "lira_released",
    "rmia",
    "summarise",
    "tune_offline_a",
    "worst",
    "worst_auc",
]

Array = np.ndarray


class Summary(NamedTuple):
    """How well scores tell members from non-members; fractions.

    Attributes:
      auc: over all models and examples together.
      tpr_1: true positive rate at a false positive rate of 1 % at most.
      tpr_01: the same at 0.1 %.
      negatives: scores of non-members; with fewer than 1000, 0.1 % means "no false positive".
      example_auc: `[n]`, of each example over the models, see `example_auc`.
    """

    auc: float
    tpr_1: float
    tpr_01: float
    negatives: int
    example_auc: Array


def summarise(scores: Array, included: Array, groups: Array | None = None) -> Summary:
    """Rate scores `[M, n]`, all together and for each example, the latter as `example_auc`.

    Raises:
      InputError: as `example_auc`.

    >>> summary = summarise([[2.0, 1.0], [0.0, 3.0]], [[True, False], [False, True]])
    >>> summary.auc, summary.example_auc.tolist()
    (1.0, [1.0, 1.0])
    """
    aucs = example_auc(scores, included, groups)
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    members, others = scores[included], scores[~included]
    tpr_1, tpr_01 = (roc.tpr_at_fpr(members, others, level).tpr for level in (0.01, 0.001))
    return Summary(roc.auc(members, others), tpr_1, tpr_01, len(others), aucs)


def example_auc(scores: Array, included: Array, groups: Array | None = None) -> Array:
    """AUC `[n]` of each example over the models of `scores` `[M, n]`; ties count half.

    `groups` `[M]` compares only models of the same group, such as couples of one model with the
    example and one without. That is fair to `leave_out`'s scores, as the same references judged
    both. Between groups the references differ: a model with a large signal is missing among those
    of its own side, and where nothing leaks the AUC is below 0.5 (0.45 with 64 couples).

    Raises:
      InputError: shapes that do not fit, NaN, or an example without IN or without OUT models to
        compare.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise InputError(
            f"scores has shape {scores.shape} and {np.isnan(scores).sum()} NaN; "
            "give [M, n] without NaN"
        )
    included = check_booleans("included", included, scores.shape)
    groups = np.zeros(len(scores)) if groups is None else np.asarray(groups)
    if groups.shape != (len(scores),):
        raise InputError(f"groups has shape {groups.shape}; give one label for each model")
    wins, pairs = 0, 0
    for group in np.unique(groups):
        rows = groups == group
        ranks, member = scipy.stats.rankdata(scores[rows], axis=0), included[rows]
        size = member.sum(axis=0)
        wins = wins + np.sum(ranks * member, axis=0) - size * (size + 1) / 2
        pairs = pairs + size * (len(member) - size)
    check_counts({"pairs of IN and OUT": pairs}, 1)
    return wins / pairs


def worst(select: Array, evaluate: Array, share: float) -> float:
    """Mean of `evaluate` `[n]` over the `share` of examples with the largest `select` `[n]`.

    Both are AUC of examples, from different models: rated on the models that chose them, the worst
    of many harmless examples look at risk by chance alone. At least one example is taken.

    Raises:
      InputError: NaN, other examples in one than in the other, or `share` is out of range.

    >>> worst([0.9, 0.5, 0.6], [0.7, 0.9, 0.4], 0.34)
    0.7
    """
    select, evaluate = roc.check_sample("select", select), roc.check_sample("evaluate", evaluate)
    if len(select) != len(evaluate):
        raise InputError(
            f"select has {len(select)} examples, evaluate {len(evaluate)}; give as many"
        )
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; give a number above 0, and 1 at most")
    size = max(1, round(share * len(select)))
    return float(np.mean(evaluate[np.argsort(-select, kind="stable")[:size]]))


def worst_auc(
    scores: Array, included: Array, groups: Array, share: float, *, select: Array
) -> float:
    """Mean AUC of the examples most at risk, chosen on one half of the groups, rated on the other.

    Mean over both directions. Where nothing leaks it is 0.5 on average, whatever the pool's size,
    because no score that chooses has seen a model that rates.

    Args:
      scores: `[M, n]`, each model judged by all other groups; the rating, within each group.
      included: `[M, n]` booleans; an example needs groups with IN and OUT models in each half, such
        as couples.
      groups: `[M]` labels.
      share: of examples, such as 0.01.
      select: `[M, n]`, the same attack with `halved=True`. With `scores` in this place the result
        is too high, since the models that rate took part in them (by 0.08 with 8 couples).

    Raises:
      InputError: as `example_auc`, for each half of the groups, and as `worst`.
    """
    index, _ = judges(groups, len(scores), halved=True)
    halves = [half_of(index) == half for half in (0, 1)]
    chosen, rated = (
        [example_auc(values[half], included[half], index[half]) for half in halves]
        for values in (select, scores)
    )
    return (worst(chosen[0], rated[1], share) + worst(chosen[1], rated[0], share)) / 2
