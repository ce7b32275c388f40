"""What the report of a deletion must answer: guarantee, scope, attackers, residual risk, record.

The questions follow Articles 5(2) and 17 of the GDPR and Opinion 28/2024 of the European Data
Protection Board. The answers are plain JSON values; `answers_html` shows them, and the signed
statement of a deletion repeats them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from ltu_jax.audit.roc import auc_interval
from ltu_jax.report import sentences
from ltu_jax.report.audit import sentences as audit_sentences
from ltu_jax.report.content import ReportContent, find_row, measured, number, plain
from ltu_jax.report.noise import blind, floors
from ltu_jax.report.verdict import verdict

_QUERIES = "Anyone who can query the model and has the example with its label"
_TRAINED = "An expert who can train dozens of models on similar data, by this recipe and method"
_OWNERS = "Anyone who kept the starting checkpoint: the operator, a backup, an earlier recipient"
_UNMEASURED = "Unknown; `ltu audit` measures it, single examples with ensembles."
# Attacks of `ltu audit` on single examples: name in the audit, name here.
_SINGLE = {"u_lira": "U-LiRA on single examples", "rmia": "RMIA on single examples"}

NOT_COVERED = (
    "The data set, its copies and backups.",
    "The starting checkpoint and its copies; until they are deleted, they still hold the forget "
    "set, and next to the unlearned checkpoint they reveal more.",
    "Models that were fine-tuned, distilled, quantised or exported from the starting checkpoint, "
    "and ensembles trained on the forget set.",
    "Files of the run that name the forget set or hold its scores (split.npz, scores.npz); "
    "`ltu forget-files` lists and deletes them.",
    "Outputs that the starting checkpoint gave before: caches, logs, predictions.",
)


def answers(content: ReportContent) -> dict[str, Any]:
    """Return all answers: `guarantee`, `scope`, `attacks`, `residual_risk`, `record`, `retrain`."""
    return plain(
        {
            "guarantee": {**_guarantee(content), "sentence": guarantee_sentence(content)},
            "scope": {"covered": covered(content), "not_covered": list(NOT_COVERED)},
            "attacks": attacks(content),
            "residual_risk": residual_risk(content),
            "record": record(content),
            "retrain": retrain_instead(content),
        }
    )


def _guarantee(content: ReportContent) -> Mapping[str, Any]:
    unknown = {"type": "empirical", "epsilon": None, "delta": None}
    return content.run.get("guarantee") or unknown


def guarantee_sentence(content: ReportContent) -> str:
    """Return the guarantee class of the result and its meaning."""
    found = _guarantee(content)
    if found["type"] == "exact":
        return (
            "Exact: the unlearned model was trained from scratch without the forget set, and "
            "nothing of the starting checkpoint was used."
        )
    if found["type"] == "certified":
        return (
            f"Certified: with epsilon {found['epsilon']:g} and delta {found['delta'] or 0:g} the "
            "result cannot be distinguished from a model trained without the forget set, under "
            "the assumptions of the method's proof."
        )
    if content.run.get("source") == "outputs":
        return (
            "Empirical: how the model was made is not known here, and with it any guarantee. All "
            "evidence is what the attacks below measured."
        )
    return (
        "Empirical: the method gives no guarantee. All evidence is what the attacks below measured."
    )


def covered(content: ReportContent) -> list[str]:
    """Return which models this report is about."""
    if content.run.get("source") == "outputs":
        return ["The model whose outputs were given as `unlearned`, as far as they are its own."]
    digest = content.run.get("sha256", {}).get("unlearned")
    named = f" (SHA-256 of its arrays: {digest})" if digest else ""
    return [f"The checkpoint `unlearned` of this run{named} and exact copies of it."]


def residual_risk(content: ReportContent) -> str:
    """Return the risk that is left, in one sentence."""
    if _guarantee(content)["type"] == "exact":
        return (
            "The unlearned checkpoint shows no more of the forget set than any model trained "
            "without it; what is not covered still does."
        )
    levels = [verdict(content).level]
    if content.audit is not None:
        levels.append(audit_sentences.summary(content.audit, content.run["method"]).level)
    if "outside" in levels:
        return (
            "The unlearned model differs measurably from retrained ones, so assume that an "
            "attacker can learn from it which examples were in the forget set."
        )
    if "inside" in levels:
        return (
            "The measured attacks do no better on the unlearned model than on a retrained one; a "
            "stronger attack, or one that also has the starting checkpoint, may do better."
        )
    return (
        "The risk is unknown, because no measurement here could have shown a difference; treat the "
        "unlearned model as if it still held the forget set."
    )


def retrain_instead(content: ReportContent) -> list[str]:
    """Return when to retrain from scratch instead, this run's own reasons first."""
    if _guarantee(content)["type"] == "exact":
        return ["This model was trained without the forget set; no further retraining is needed."]
    reasons = []
    level = verdict(content).level
    if level == "outside":
        reasons.append("Retrain, or repeat with another method: this result is not like Retrain's.")
    elif level != "inside":
        reasons.append(
            "Retrain if evidence is needed: the measurements of this run cannot give it."
        )
    if content.ledger:
        reasons.append(content.ledger["drift"]["sentence"])
    return [
        *reasons,
        "Retrain whenever a law, a contract or the kind of data (health, biometrics, children) "
        "asks for a guarantee and not for measurements.",
    ]


def record(content: ReportContent) -> dict[str, Any]:
    """Return who ran what with which version and when."""
    return {
        "operator": content.run.get("operator"),
        "command": content.run["command"],
        "date": content.run.get("time", {}).get("date"),
        "version": content.versions.get("ltu-jax"),
        "device": content.versions.get("device"),
        "request": sentences.request(content),
        "method": content.run["method"],
    }


def attacks(content: ReportContent) -> list[dict[str, Any]]:
    """Return for each attack who could run it, what it needs, and what it found, in percent.

    `value` and `interval` (95 %) are None if it was not measured; `retrained` is the interval or
    value of retrained models; `power` says whether the attack could have seen anything.
    """
    return [_loss_attack(content), _svc_attack(content), _two_models(content)] + [
        _single_examples(content, key, name) for key, name in _SINGLE.items()
    ]


def _entry(name: str, who: str, needs: str, value: Any = None, **found: Any) -> dict[str, Any]:
    entry = {"name": name, "who": who, "needs": needs, "value": value}
    return entry | {"interval": None, "retrained": None, "power": _UNMEASURED} | found


def _loss_attack(content: ReportContent) -> dict[str, Any]:
    value = find_row(content, content.run["method"]).get("auc")
    scores, interval = content.signals.get(content.run["method"], {}), None
    losses = [np.asarray(scores.get(f"{part}_loss", ())) for part in ("forget", "test")]
    if min(map(len, losses)) > 1 and all(np.isfinite(one).all() for one in losses):
        interval = [100 * end for end in auc_interval(-losses[0], -losses[1])[1:]]
    original, band = find_row(content, "original").get("auc"), content.auc_band
    if band is None or not measured(original):
        power = "Unknown without two retrained models."
    elif band[0] <= original <= band[1]:
        power = f"None here: on the starting checkpoint its AUC is {number(original)} as well."
    else:
        power = f"It finds the forget set in the starting checkpoint (AUC {number(original)})."
    return _entry(
        "Loss attack, AUC",
        _QUERIES,
        "The model's confidence on the example; no training",
        value,
        interval=interval,
        retrained=band,
        power=power,
    )


def _svc_attack(content: ReportContent) -> dict[str, Any]:
    value = find_row(content, content.run["method"]).get("mia")
    count = content.run["sizes"]["forget"]
    floor, retrain = floors(content).get("mia"), find_row(content, "retrain").get("mia")
    interval = None
    if measured(value) and count:
        found = scipy.stats.binomtest(round(value / 100 * count), count).proportion_ci()
        interval = [100 * found.low, 100 * found.high]
    if floor is None or not measured(retrain):
        band, power = None, "Unknown without a retrained model."
    else:
        band = [max(0.0, retrain - floor.value), min(100.0, retrain + floor.value)]
        power = (
            "None here: the starting checkpoint is within the noise of Retrain too."
            if "mia" in blind(content)
            else "It finds the forget set in the starting checkpoint."
        )
    return _entry(
        "Membership inference (SVC), non-members",
        f"{_QUERIES}, and other training examples",
        "The model's confidence on known training examples and on unseen ones",
        value,
        interval=interval,
        retrained=band,
        power=power,
    )


def _two_models(content: ReportContent) -> dict[str, Any]:
    rows = {row["model"]: row for row in (content.audit or {}).get("population", ())}
    value = rows.get(content.run["method"], {}).get("two_model")
    needs = "Both checkpoints and the example with its label"
    if not measured(value):
        return _entry("Comparison of both checkpoints, AUC", _OWNERS, needs)
    return _entry(
        "Comparison of both checkpoints, AUC",
        _OWNERS,
        needs,
        value,
        retrained=rows.get("retrain", {}).get("two_model"),
        power="Retrained models show a drop as well; theirs is the target.",
    )


def _single_examples(content: ReportContent, key: str, name: str) -> dict[str, Any]:
    per_example = (content.audit or {}).get("per_example", {})
    found = per_example.get("shadow_unlearned", {}).get(key)
    needs = "Many models trained with and without the example"
    if not found:
        return _entry(name, _TRAINED, needs)
    floor = per_example.get("shadow_retrain", {}).get(key, {})
    detectable = found["bound"].get("detectable")
    return _entry(
        f"{name}, AUC",
        _TRAINED,
        needs,
        found["auc"],
        interval=found.get("auc_interval"),
        retrained=floor.get("auc_interval"),
        power=f"It would have seen epsilon {audit_sentences.nats(detectable)} or more."
        if measured(detectable)
        else "With so few models no leak is certain to be seen.",
    )
