"""Networks in, everything the report says of them out: rows, raw scores and figures' data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.audit import bounds, signals, summary
from ltu_jax.report.content import ReportContent
from ltu_jax.report.write import versions
from ltu_jax.runs.networks import row_name
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.tuning import Selection
from ltu_jax.training.loop import History
from ltu_jax.training.supervised import predict
from ltu_jax.types import TrainedModel
from ltu_jax.unlearners.ltu import diagnostics as diagnosis

# The SVC attack's cost grows with the square of its examples; 2,000 a side take two seconds.
ATTACK_SIZE = 2000


class Measured(NamedTuple):
    """What the audit found.

    Attributes:
      rows: one per network, with gaps to Retrain where there is one.
      signals: per network, confidence and loss of every forget and test example.
      class_accuracy: per network, test accuracy of every class, in percent.
    """

    rows: list[summary.Row]
    signals: dict[str, dict[str, np.ndarray]]
    class_accuracy: dict[str, np.ndarray]


class NetworkMeasured(NamedTuple):
    """What the audit found of one network: `Measured` for one, its gaps still open."""

    row: summary.Row
    signals: dict[str, np.ndarray]
    class_accuracy: np.ndarray


def measure(
    plan: Plan, networks: Mapping[str, TrainedModel], on_done: Callable[[int], None]
) -> Measured:
    """Audit the networks on the test set and on examples that no method has seen.

    Args:
      plan: of the deletion.
      networks: by the name that the report calls them.
      on_done: called with 0, 1, ... as networks are done.
    """
    found = {}
    for done, (name, network) in enumerate(networks.items()):
        found[name] = measure_network(plan, name, network)
        on_done(done)
    return Measured(
        rows=summary.with_gaps([measured.row for measured in found.values()]),
        signals={name: measured.signals for name, measured in found.items()},
        class_accuracy={name: measured.class_accuracy for name, measured in found.items()},
    )


def measure_network(plan: Plan, name: str, network: TrainedModel) -> NetworkMeasured:
    """Audit one network; arguments as for `measure`."""
    split = plan.split
    train, heldout = plan.dataset.train, plan.dataset.heldout
    parts = {
        "forget": split.forget,
        "retain": split.retain,
        "members": requests.attack_members(split, seed=plan.seed, size=ATTACK_SIZE).indices,
        "accessible": split.accessible,
        "inaccessible": np.setdiff1d(split.retain, split.accessible),
    }
    outputs = np.asarray(predict(plan.model, network.variables, train.inputs))
    logits = {part: outputs[rows] for part, rows in parts.items()}
    logits["test"] = np.asarray(predict(plan.model, network.variables, heldout.inputs[split.test]))
    labels = {part: train.labels[rows] for part, rows in parts.items()}
    labels["test"] = heldout.labels[split.test]
    row = summary.evaluate(name, logits, labels, seconds=network.seconds, seed=plan.seed)
    return NetworkMeasured(
        row=row._replace(attack_success=attack_success(plan, network)),
        signals={
            f"{part}_{signal.__name__}": signal(logits[part], labels[part])
            for part in ("forget", "test")
            for signal in (signals.confidence, signals.loss)
        },
        class_accuracy=_class_accuracy(logits["test"], labels["test"], plan.dataset.num_classes),
    )


def attack_success(plan: Plan, network: TrainedModel) -> float | None:
    """Return how often, in percent, the trigger of a backdoor succeeds; None if it is not known."""
    triggered = plan.dataset.triggered
    if triggered is None:
        return None
    answers = predict(plan.model, network.variables, triggered.inputs).argmax(-1)
    return 100.0 * float(np.mean(np.asarray(answers) == triggered.target))


def report_content(
    plan: Plan,
    measured: Measured,
    history: History,
    command: str,
    chosen: Selection | None = None,
) -> ReportContent:
    """Return what the report is made of; `chosen` says how the method's options came about."""
    split = plan.split
    sizes = {name: len(rows) for name, rows in split._asdict().items()}
    # A random draw and the test set are exchangeable for a retrained network; a class is not.
    exchangeable = plan.request.kind in ("ids", "fraction")
    counts = (len(split.forget), len(split.test))
    return ReportContent(
        run={
            "data": plan.dataset.name,
            "model": plan.model.name,
            "method": row_name(plan.method.name),
            "uses_validation": plan.unlearner.invariants.uses_validation,
            "options_chosen": "default" if chosen is None else chosen.rule,
            "seeds": {"run": plan.seed},
            "signs": diagnosis.signs(history),
            "command": command,
            "sizes": {"train": len(plan.dataset.train.labels), **sizes},
        },
        request=requests.describe(plan.request),
        rows=[row._asdict() for row in measured.rows],
        config={
            "retain_fraction": plan.retain_fraction,
            "reference": plan.reference,
            "training": asdict(plan.recipe),
            **({} if plan.only is None else {"only": list(plan.only)}),
            "options chosen": "defaults" if chosen is None else describe_choice(chosen),
            plan.method.name: asdict(plan.config),
        },
        versions=versions(),
        attacks=describe_attacks(plan),
        signals=measured.signals,
        class_accuracy=measured.class_accuracy,
        class_names=plan.dataset.class_names,
        history={"step": list(range(plan.unlearner.num_steps)), **_lists(history)},
        auc_band=bounds.auc_floor_band(*counts) if exchangeable else None,
        roc_band=bounds.ks_floor(*counts) if exchangeable else None,
    )


def describe_choice(chosen: Selection) -> str:
    """Return how the options were chosen; a choice that knew Retrain says so."""
    how = (
        "BY THE ORACLE, which knew Retrain: no such choice can be made in earnest,"
        if chosen.rule == "oracle"
        else "without Retrain, test set or attacks of this report,"
    )
    return f"{how} among {len(chosen.trials)} trials (tuning.json)"


def describe_attacks(plan: Plan) -> list[dict[str, Any]]:
    """Return what each attack of the report sees, and what it shares with the method's own."""
    members = requests.attack_members(plan.split, seed=plan.seed, size=ATTACK_SIZE)
    side = min(len(members.indices), len(plan.split.test))
    source = "accessible retain" if members.seen else "retain examples the method never saw"
    related = (
        "Its feature is a function of the log-odds, which one of LTU's own membership models "
        "looks at too; model, members and non-members are others."
    )
    return [
        {
            "name": "SVC on confidence (MIA)",
            "data": f"fitted on {side} members ({source}) and {side} test examples",
            "shares_features": True,
            "shares_data": members.seen,
            "sentence": f"Share of the forget set that it calls non-member. {related}",
        },
        {
            "name": "Loss attack (AUC)",
            "data": f"{len(plan.split.forget)} forget and {len(plan.split.test)} test examples",
            "shares_features": True,
            "shares_data": False,
            "sentence": f"Nothing is fitted: a low loss is taken for membership. {related}",
        },
    ]


def _class_accuracy(logits: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the accuracy of each class in percent; NaN where the test set has none of it."""
    hits = np.bincount(labels[logits.argmax(-1) == labels], minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, 100.0 * hits / np.maximum(counts, 1), np.nan)


def _lists(history: History) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in history.items()}
