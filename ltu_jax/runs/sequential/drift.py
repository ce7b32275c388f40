"""Cumulative utility and leakage over sequential requests, and whether to retrain.

*Utility* is the test accuracy lost since the last training, on classes that are still kept.
*Leakage* is the loss attack's AUC on everything forgotten so far against test data, compared with
two retrained models if there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.audit import attacks, bounds, signals, summary
from ltu_jax.report.content import counted, number, signed
from ltu_jax.runs.plan import Plan
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Examples, TrainedModel

TOLERATED = 2.0  # percentage points of test accuracy since the last training


def measure_drift(
    plan: Plan, models: Mapping[str, TrainedModel], before: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Measure utility and leakage over all requests of a model, this one included.

    Args:
      plan: the plan of this request.
      models: `original` (the model before this request), `unlearned`, and others to compare with.
      before: the ledger's entries of the earlier requests.

    Returns:
      All rates are in percent:

      * `forgotten`, `earlier`: number of forgotten examples, with and without this request;
      * `models`: for each model (`unlearned` under the method's name) the `error` and the loss
        attack's `auc` on all of them, `error_earlier` and `auc_earlier` on the earlier ones;
      * `auc`: that of the unlearned model;
      * `band`: interval of `auc` from two retrained models, see `retrained_auc_band`; None without;
      * `utility_change`, `utility_since_training`: percentage points of test accuracy;
      * `tested`: number of examples that they are measured on;
      * `retrain`, `sentence`: the recommendation, and the same in words, with the rule.
    """
    split, earlier = plan.split, plan.earlier
    test = Examples(*(np.asarray(array)[split.test] for array in plan.dataset.heldout))
    train = plan.dataset.train
    parts = {"new": Examples(train.inputs[split.forget], train.labels[split.forget]), "test": test}
    if earlier is not None:
        parts["earlier"] = earlier
    logits = {
        name: {
            part: np.asarray(predict(plan.model, model.variables, examples.inputs))
            for part, examples in parts.items()
        }
        for name, model in models.items()
    }
    labels = {part: np.asarray(examples.labels) for part, examples in parts.items()}
    count = sum(len(labels[part]) for part in labels if part != "test")
    kept = np.isin(labels["test"], train.labels[split.retain])
    accuracy = {name: _accuracy(logits[name], labels, kept) for name in ("original", "unlearned")}
    change = accuracy["unlearned"] - accuracy["original"]
    since = before[-1]["drift"]["utility_since_training"] + change if before else change
    on_forgotten = {name: _on_forgotten(outputs, labels) for name, outputs in logits.items()}
    drift = {
        "forgotten": count,
        "earlier": count - len(split.forget),
        "models": {
            plan.method.name if name == "unlearned" else name: values
            for name, values in on_forgotten.items()
        },
        "auc": on_forgotten["unlearned"]["auc"],
        "band": _band(logits, labels),
        "utility_change": change,
        "utility_since_training": 0.0 if is_retrained(plan) else since,
        "tested": int(kept.sum()),
    }
    return drift | recommend(drift, retrained=is_retrained(plan))


def is_retrained(plan: Plan) -> bool:
    """Whether the method is exact: training from scratch on the whole retain set."""
    whole = len(plan.split.accessible) == len(plan.split.retain)
    return whole and plan.method.name == "retrain_accessible"


def recommend(drift: Mapping[str, Any], *, retrained: bool = False) -> dict[str, Any]:
    """Return `retrain` and `sentence` of `measure_drift`.

    Retraining is recommended if test accuracy fell by more than `TOLERATED` points since the last
    training, or if the loss attack's AUC on everything forgotten so far is outside the interval of
    retrained models.

    Args:
      drift: the other values of `measure_drift`.
      retrained: whether this request was itself a retraining, so that nothing is recommended.
    """
    change, auc, band = drift["utility_since_training"], drift["auc"], ""
    low, high = drift["band"] or (0.0, 100.0)
    if drift["band"]:
        band = f"the interval {number(low)} to {number(high)} of retrained models"
    reasons = []
    if change < -TOLERATED:
        reasons.append(f"test accuracy has fallen by {number(-change)} points")
    if band and not low <= auc <= high:
        reasons.append(f"the AUC on everything forgotten so far is {number(auc)}, outside {band}")
    rule = (
        f"The rule: retrain if test accuracy has fallen by more than {number(TOLERATED)} points "
        f"since the last training (here {signed(change)}, on {counted(drift['tested'], 'example')} "
        "of classes still kept), or if the loss attack's AUC on "
        f"{counted(drift['forgotten'], 'example')} forgotten so far is outside "
    )
    if band:
        rule += (
            f"{band} (here {number(auc)}). A leak that changes this AUC by less than "
            f"{number((high - low) / 2)} points is not detected."
        )
    else:
        rule += (
            f"the interval of retrained models. It is {number(auc)}, but no two models were "
            "retrained, so there is no interval and this half of the rule does not apply."
        )
    if retrained:
        return {"retrain": False, "sentence": f"The model was retrained. {rule}"}
    because = " and ".join(reasons)
    advice = f"recommended: {because}" if reasons else "not recommended"
    return {"retrain": bool(reasons), "sentence": f"Retraining is {advice}. {rule}"}


def _band(
    logits: Mapping[str, Mapping[str, Array]], labels: Mapping[str, Array]
) -> list[float] | None:
    """Return the interval that the retrained models span on all forgotten examples."""
    scores = []
    for name in ("retrain", "retrain_2"):
        if name not in logits:
            return None
        losses = {part: -signals.loss(logits[name][part], labels[part]) for part in labels}
        forgotten = np.concatenate([losses[part] for part in losses if part != "test"])
        scores.append((forgotten, losses["test"]))
    return list(bounds.retrained_auc_band(*scores))


def _on_forgotten(logits: Mapping[str, Array], labels: Mapping[str, Array]) -> dict[str, Any]:
    """Return one model's error and loss AUC on the forgotten examples, in percent."""
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
    """Return the test accuracy on some rows in percent; 100 if there are none."""
    return summary.accuracy(logits["test"][rows], labels["test"][rows]) if rows.any() else 100.0
