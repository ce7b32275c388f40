"""What a run of requests has done to a model so far, and whether to train it anew.

Two things are followed from request to request. *Utility*: the test accuracy that each request
cost, on classes that are still kept, added up since the last training. *Leakage*: how well the loss
attack tells everything that was forgotten so far from test data. Neither needs a Retrain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.audit import attacks, bounds, signals, summary
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan
from ltu_jax.report.content import number, signed
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Examples

TOLERATED = 2.0  # points of test accuracy since the last training


def measure_drift(
    plan: Plan, networks: Mapping[str, TrainedModel], before: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what the model's requests have come to, this one included.

    Args:
      plan: of this request.
      networks: `original` (the network before it), the method's, and any others to compare with.
      before: the ledger's entries of the earlier requests.

    Returns:
      `forgotten` and `earlier` (numbers of examples: all so far, and without this request),
      `networks` (for each the `error` and the loss attack's `auc` on all of them, `error_earlier`
      and `auc_earlier` on the earlier ones), `auc` (the method's), `band` (of exact unlearning, see
      `auc_floor_band`; None if any request of the model was for a class or a group),
      `utility_change` and `utility_since_training` (points of test accuracy), `tested` (examples
      they are measured on), `retrain` (the recommendation) and `sentence` (the same in words, with
      the rule). All rates are in percent.
    """
    split, earlier = plan.split, plan.earlier
    test = Examples(*(np.asarray(array)[split.test] for array in plan.dataset.heldout))
    train = plan.dataset.train
    parts = {"new": Examples(train.inputs[split.forget], train.labels[split.forget]), "test": test}
    if earlier is not None:
        parts["earlier"] = earlier
    logits = {
        name: {
            part: np.asarray(predict(plan.model, network.variables, examples.inputs))
            for part, examples in parts.items()
        }
        for name, network in networks.items()
    }
    labels = {part: np.asarray(examples.labels) for part, examples in parts.items()}
    count = sum(len(labels[part]) for part in labels if part != "test")
    exchangeable = plan.request.kind in ("ids", "fraction") and all(
        entry["drift"]["band"] for entry in before
    )
    method = plan.method.name
    kept = np.isin(labels["test"], train.labels[split.retain])
    change = _accuracy(logits[method], labels, kept) - _accuracy(logits["original"], labels, kept)
    since = before[-1]["drift"]["utility_since_training"] + change if before else change
    on_forgotten = {name: _on_forgotten(answers, labels) for name, answers in logits.items()}
    found = {
        "forgotten": count,
        "earlier": count - len(split.forget),
        "networks": on_forgotten,
        "auc": on_forgotten[method]["auc"],
        "band": list(bounds.auc_floor_band(count, len(test.labels))) if exchangeable else None,
        "utility_change": change,
        "utility_since_training": 0.0 if trained_anew(plan) else since,
        "tested": int(kept.sum()),
    }
    return found | recommend(found, anew=trained_anew(plan))


def trained_anew(plan: Plan) -> bool:
    """Whether the method is exact: training from scratch on all that is kept."""
    seen, kept = len(plan.split.accessible), len(plan.split.retain)
    return plan.method.name == "retrain_accessible" and seen == kept


def recommend(found: Mapping[str, Any], *, anew: bool = False) -> dict[str, Any]:
    """Return `retrain` and `sentence` of `measure_drift`.

    The rule: train anew when the test accuracy lost since the last training is more than
    `TOLERATED` points, or when the loss attack's AUC on everything forgotten so far is outside the
    band that holds 95 % of exact unlearnings.

    Args:
      found: the other values of `measure_drift`.
      anew: this request was answered by training anew, so that nothing is recommended.
    """
    change, auc, band = found["utility_since_training"], found["auc"], None
    if found["band"] is not None:
        band = f"the {number(found['band'][0])} to {number(found['band'][1])} that hold 95 % of"
        band += " exact unlearnings"
    reasons = []
    if change < -TOLERATED:
        reasons.append(f"test accuracy has fallen by {number(-change)} points")
    if band and not found["band"][0] <= auc <= found["band"][1]:
        reasons.append(f"the AUC on everything forgotten so far is {number(auc)}, outside {band}")
    rule = (
        f"The rule: train anew when test accuracy has fallen by more than {number(TOLERATED)} "
        f"points since the last training (here {signed(change)}, on {found['tested']:,} examples "
        f"of classes still kept), or when the loss attack's AUC on all {found['forgotten']:,} "
        "examples forgotten so far is outside "
    )
    if band:
        reach = (found["band"][1] - found["band"][0]) / 2
        rule += (
            f"{band} (here {number(auc)}). Exact unlearning itself is outside one time in 20, and "
            f"a leak that moves this AUC by less than {number(reach)} points is not seen."
        )
    else:
        rule += (
            f"the band of exact unlearning. It is {number(auc)}, but what was forgotten is not "
            "like a random draw, so there is no band and this half of the rule says nothing."
        )
    if anew:
        return {"retrain": False, "sentence": f"The model was trained anew. {rule}"}
    because = " and ".join(reasons)
    advice = f"recommended: {because}" if reasons else "not recommended"
    return {"retrain": bool(reasons), "sentence": f"Training anew is {advice}. {rule}"}


def _on_forgotten(logits: Mapping[str, Array], labels: Mapping[str, Array]) -> dict[str, float]:
    """Return one network's error and loss AUC on what was forgotten, in percent."""
    losses = {part: signals.loss(logits[part], labels[part]) for part in logits}
    error = {part: 100.0 - summary.accuracy(logits[part], labels[part]) for part in logits}
    if "earlier" not in logits:
        return {
            "error": error["new"],
            "auc": attacks.loss_auc(losses["new"], losses["test"]),
            "error_earlier": None,
            "auc_earlier": None,
        }
    sizes = [len(labels["new"]), len(labels["earlier"])]
    everything = np.concatenate([losses["new"], losses["earlier"]])
    return {
        "error": float(np.average([error["new"], error["earlier"]], weights=sizes)),
        "auc": attacks.loss_auc(everything, losses["test"]),
        "error_earlier": error["earlier"],
        "auc_earlier": attacks.loss_auc(losses["earlier"], losses["test"]),
    }


def _accuracy(logits: Mapping[str, Array], labels: Mapping[str, Array], rows: Array) -> float:
    """Return the test accuracy on some rows in percent; 100 where the test set has none."""
    return summary.accuracy(logits["test"][rows], labels["test"][rows]) if rows.any() else 100.0
