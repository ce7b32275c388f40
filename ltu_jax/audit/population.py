"""All attacks on a whole population, on one network: how well forget is told from test examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltu_jax.audit import attacks, roc, signals
from ltu_jax.audit import features as feature_attacks
from ltu_jax.audit.features import Labelled

# The attacks of the table, in its order: what a column is called and what it says.
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
}


def population_attacks(
    sets: Mapping[str, Labelled],
    original: Mapping[str, np.ndarray],
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> dict[str, Any]:
    """All population attacks on one network, in percent; their target is Retrain's value.

    Args:
      sets: logits `[N, C]` and labels `[N]` of `forget`, `test` and `members`, retain examples on
        which attacks are fitted.
      original: the original network's logits of `forget` and `test`, for the two-model attack.
      alpha: of the interval of the AUC.
      seed: draws equal numbers of members and test examples, and the folds.

    Returns:
      The numbers named by `COLUMNS`, None where a set is too small; with `loss_auc_interval`
      (DeLong), `negatives` (test examples behind each TPR) and `thresholds`, the share of forget
      examples that per-class thresholds on each feature call unseen; empty where a class of the
      forget set has no members to set its threshold by.
    """
    forget, test, members = (sets[name] for name in ("forget", "test", "members"))
    size = min(len(members.labels), len(test.labels))
    rng = np.random.default_rng(seed)
    members, nonmembers = (
        _some(part, rng.permutation(len(part.labels))[:size]) for part in (members, test)
    )
    svc = feature_attacks.svc_mia_all(members, nonmembers, forget)
    losses = [signals.loss(*part) for part in (forget, test)]
    pair = (-losses[0], -losses[1])
    interval = roc.delong(*pair, alpha)[1:] if len(forget.labels) > 1 else None
    low, lower = (roc.tpr_at_fpr(*pair, level) for level in (0.01, 0.001))
    enough = min(len(forget.labels), len(test.labels)) >= attacks.LEAST_SUPERVISED
    return {
        **{f"svc_{name}": value for name, value in svc.items()},
        "loss_auc": 100 * roc.auc(*pair),
        "loss_auc_interval": interval and [100 * bound for bound in interval],
        "loss_tpr_1": 100 * low.tpr,
        "loss_tpr_01": 100 * lower.tpr,
        "negatives": low.negatives,
        "loss_logistic": attacks.loss_logistic(*losses, seed=seed) if enough else None,
        "supervised": attacks.supervised(*forget, *test, seed=seed) if enough else None,
        "two_model": attacks.two_model(
            *(
                signals.margin(logits, part.labels)
                for name, part in (("forget", forget), ("test", test))
                for logits in (original[name], part.logits)
            )
        ),
        "thresholds": _thresholds(members, nonmembers, forget),
    }


def _thresholds(members: Labelled, nonmembers: Labelled, forget: Labelled) -> dict[str, float]:
    known = np.intersect1d(members.labels, nonmembers.labels)
    if not np.isin(forget.labels, known).all():
        return {}
    # The members stand in for target members, whose rate is not asked for.
    target = _some(members, np.isin(members.labels, known))
    found = feature_attacks.threshold_attacks(members, nonmembers, target, forget)
    return {name: recognised.nonmembers for name, recognised in found.items()}


def _some(part: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled(part.logits[rows], part.labels[rows])
