"""Summaries of per-example membership scores; all rates are fractions.

Scores `[M, n]` are of M models and n examples; `included` is True where the model was trained on
the example. A higher score means "was trained on". `lira` and `rmia` compute them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from ltu_jax.audit.checks import check, check_booleans, check_scores
from ltu_jax.audit.references import check_counts, half_of, reference_masks
from ltu_jax.audit.roc import roc_auc, tpr_at_fpr
from ltu_jax.errors import InputError
from ltu_jax.types import Array


class ScoreSummary(NamedTuple):
    """How well scores separate members from non-members; fractions.

    Attributes:
      auc: over all models and examples together.
      tpr_1: true positive rate at a false positive rate of at most 1 %.
      tpr_01: the same at 0.1 %.
      negatives: number of non-members' scores; with fewer than 1,000, 0.1 % allows no false
        positive.
      example_auc: `[n]`, AUC of each example over the models, see `example_auc`.
    """

    auc: float
    tpr_1: float
    tpr_01: float
    negatives: int
    example_auc: np.ndarray


def summarise_scores(scores: Array, included: Array, groups: Array | None = None) -> ScoreSummary:
    """Summarise scores `[M, n]`, all together and per example; arguments as for `example_auc`.

    Raises:
      InputError: as `example_auc`.

    >>> summary = summarise_scores([[2.0, 1.0], [0.0, 3.0]], [[True, False], [False, True]])
    >>> summary.auc, summary.example_auc.tolist()
    (1.0, [1.0, 1.0])
    """
    aucs = example_auc(scores, included, groups)
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    members, others = scores[included], scores[~included]
    tpr_1, tpr_01 = (tpr_at_fpr(members, others, level).tpr for level in (0.01, 0.001))
    return ScoreSummary(roc_auc(members, others), tpr_1, tpr_01, len(others), aucs)


def example_auc(scores: Array, included: Array, groups: Array | None = None) -> np.ndarray:
    """Return the AUC `[n]` of each example over the models; ties count half.

    Args:
      scores: `[M, n]`.
      included: `[M, n]` booleans.
      groups: `[M]` labels; only models of one group are compared, such as paired models of which
        one was trained on the example. Leave-one-out scores need this: models of one group share
        their references. Between groups the references differ, because a model is missing among
        those of its side, and the AUC without a leak is below 0.5 (0.45 with 64 pairs).

    Raises:
      InputError: shapes that do not fit, NaN, or an example without IN or without OUT models to
        compare.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or np.isnan(scores).any():
        found = f"has shape {scores.shape} and {np.isnan(scores).sum()} NaN"
        raise InputError("scores", found, "give [M, n] without NaN")
    included = check_booleans("included", included, scores.shape)
    groups = np.zeros(len(scores)) if groups is None else np.asarray(groups)
    if groups.shape != (len(scores),):
        raise InputError("groups", f"has shape {groups.shape}", "give one label for each model")
    wins, pairs = np.zeros((2, scores.shape[1]))
    for group in np.unique(groups):
        rows = groups == group
        ranks, member = scipy.stats.rankdata(scores[rows], axis=0), included[rows]
        size = member.sum(axis=0)
        wins = wins + np.sum(ranks * member, axis=0) - size * (size + 1) / 2
        pairs = pairs + size * (len(member) - size)
    check_counts({"pairs of IN and OUT": pairs}, 1)
    return wins / pairs


def mean_of_largest(select: Array, evaluate: Array, share: float) -> float:
    """Return the mean of `evaluate` `[n]` over the `share` of examples with the largest `select`.

    Both are AUCs of examples, from different models: evaluated on the models that selected them,
    the worst of many harmless examples look at risk by chance. At least one example is selected.

    Raises:
      InputError: NaN, two lengths, or `share` is out of range.

    >>> mean_of_largest([0.9, 0.5, 0.6], [0.7, 0.9, 0.4], 0.34)
    0.7
    """
    select, evaluate = check_scores("select", select), check_scores("evaluate", evaluate)
    if len(select) != len(evaluate):
        raise InputError("evaluate", f"has {len(evaluate)} examples", f"give {len(select)}")
    check(0 < share <= 1, "share", share, "a number above 0, and 1 at most")
    size = max(1, round(share * len(select)))
    return float(np.mean(evaluate[np.argsort(-select, kind="stable")[:size]]))


def worst_auc(
    scores: Array, included: Array, groups: Array, share: float, *, select: Array
) -> float:
    """Return the mean AUC of the examples most at risk, selected on one half of the groups.

    They are evaluated on the other half; the result is the mean over both directions. Without a
    leak it is 0.5 on average at any number of models, because selection and evaluation share no
    model.

    Args:
      scores: `[M, n]`, with all other groups as references; for the evaluation.
      included: `[M, n]` booleans; each half needs groups with IN and OUT models of each example,
        such as paired models.
      groups: `[M]` labels.
      share: of examples, such as 0.01.
      select: `[M, n]`, the same attack with `halved=True`. With `scores` instead the result is too
        high, by 0.08 with 8 pairs, because they depend on the models of the evaluation.

    Raises:
      InputError: as `example_auc`, for each half of the groups, and as `mean_of_largest`.
    """
    index, _ = reference_masks(groups, len(scores), halved=True)
    halves = [half_of(index) == half for half in (0, 1)]
    selected, evaluated = (
        [example_auc(values[half], included[half], index[half]) for half in halves]
        for values in (select, scores)
    )
    forward = mean_of_largest(selected[0], evaluated[1], share)
    return (forward + mean_of_largest(selected[1], evaluated[0], share)) / 2
