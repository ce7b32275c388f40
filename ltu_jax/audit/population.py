"""All population attacks on one model: forget examples against test examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltu_jax.audit import attacks, signals
from ltu_jax.audit.features import LabelledLogits, svc_mia_by_feature, threshold_attacks
from ltu_jax.audit.roc import auc_interval, roc_auc, tpr_at_fpr
from ltu_jax.types import Array

# Keys and titles of the attacks, in the order of the report's table.
COLUMNS = {
    "svc_correctness": "MIA by correctness",
    "svc_confidence": "MIA by confidence",
    "svc_entropy": "MIA by entropy",
    "svc_modified_entropy": "MIA by modified entropy",
    "svc_probabilities": "MIA by probabilities",
    "loss_auc": "loss attack, AUC",
    "loss_tpr_1": "loss attack, TPR at 1 % FPR",
    "loss_tpr_01": "loss attack, TPR at 0.1 % FPR",
    "loss_logistic": "logistic regression on the loss, accuracy",
    "supervised": "boosted trees on the outputs, AUC",
    "two_model": "drop from the original model, AUC",
    "reference_lira": "LiRA with reference models, AUC",
    "reference_rmia": "RMIA with reference models, AUC",
}


def population_attacks(
    sets: Mapping[str, LabelledLogits],
    original: Mapping[str, Array],
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> dict[str, Any]:
    """Run all population attacks on one model; the target of each number is Retrain's value.

    Args:
      sets: `forget`, `test` and `members`, retain examples to which attacks are fitted.
      original: the original model's logits `[N, C]` of `forget` and `test`, for the two-model
        attack.
      alpha: level of the AUC's interval.
      seed: draws equal numbers of members and test examples, and the folds.

    Returns:
      Percent by the keys of `COLUMNS`, None if a set is too small; `loss_auc_interval` (DeLong);
      `negatives`, the number of test examples; `thresholds`, percent of forget examples that
      per-class thresholds classify as unseen, by feature; empty if a class of the forget set lacks
      members.
    """
    forget, test, members = (sets[name] for name in ("forget", "test", "members"))
    size = min(len(members.labels), len(test.labels))
    rng = np.random.default_rng(seed)
    members, nonmembers = (
        _some(part, rng.permutation(len(part.labels))[:size]) for part in (members, test)
    )
    svc = svc_mia_by_feature(members, nonmembers, forget)
    losses = [signals.loss(*part) for part in (forget, test)]
    pair = (-losses[0], -losses[1])
    interval = auc_interval(*pair, alpha)[1:] if len(forget.labels) > 1 else None
    low, lower = (tpr_at_fpr(*pair, level) for level in (0.01, 0.001))
    enough = min(len(forget.labels), len(test.labels)) >= attacks.LEAST_SUPERVISED
    return {
        **{f"svc_{name}": value for name, value in svc.items()},
        "loss_auc": 100 * roc_auc(*pair),
        "loss_auc_interval": interval and [100 * bound for bound in interval],
        "loss_tpr_1": 100 * low.tpr,
        "loss_tpr_01": 100 * lower.tpr,
        "negatives": low.negatives,
        "loss_logistic": attacks.loss_logistic_accuracy(*losses, seed=seed) if enough else None,
        "supervised": attacks.supervised_auc(*forget, *test, seed=seed) if enough else None,
        "two_model": attacks.two_model_auc(
            *(
                signals.margin(logits, part.labels)
                for name, part in (("forget", forget), ("test", test))
                for logits in (original[name], part.logits)
            )
        ),
        "thresholds": _thresholds(members, nonmembers, forget),
    }


def _thresholds(
    members: LabelledLogits, nonmembers: LabelledLogits, forget: LabelledLogits
) -> dict[str, float]:
    known = np.intersect1d(members.labels, nonmembers.labels)
    if not np.isin(forget.labels, known).all():
        return {}
    # Any target members will do: their rate is not used.
    target = _some(members, np.isin(members.labels, known))
    rates = threshold_attacks(members, nonmembers, target, forget)
    return {name: recognised.nonmembers for name, recognised in rates.items()}


def _some(part: LabelledLogits, rows: np.ndarray) -> LabelledLogits:
    return LabelledLogits(part.logits[rows], part.labels[rows])
