"""The report's content from a finished run: settings, sizes, measurements and attacks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.audit.measure import ATTACK_SIZE, Measurements, retrained_band
from ltu_jax.audit.summary import Row
from ltu_jax.errors import few
from ltu_jax.report.content import ReportContent, counted
from ltu_jax.report.write import versions
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.tuning import Selection
from ltu_jax.training.loop import History
from ltu_jax.training.supervised import recipe_for
from ltu_jax.types import Split
from ltu_jax.unlearners.ltu import diagnostics
from ltu_jax.unlearners.ltu.config import MatchingConfig


def report_content(
    plan: Plan,
    measured: Measurements,
    history: History,
    command: str,
    chosen: Selection | None = None,
) -> ReportContent:
    """Return the content of the report.

    Args:
      plan: of the deletion.
      measured: the audit's measurements.
      history: per-step diagnostics of the method.
      command: the command line that repeats the run.
      chosen: how the method's options were tuned; None for defaults.
    """
    split = plan.split
    sizes = {name: len(rows) for name, rows in split._asdict().items()}
    rows = {row.model: row for row in measured.rows}
    return ReportContent(
        run={
            "data": plan.dataset.name,
            "model": plan.model.name,
            "method": plan.method.name,
            "uses_validation": plan.unlearner.invariants.uses_validation,
            "guarantee": plan.method.guarantee(plan.config)._asdict(),
            "operator": os.environ.get("LTU_OPERATOR"),
            "options_chosen": "default" if chosen is None else chosen.rule,
            "seeds": {"run": plan.seed},
            "warnings": [*plan.warnings, *filter(None, [warn_of_recipes(plan, rows)])],
            "made_by": made_by(plan),
            "preprocessing": preprocessing(plan),
            "given_accuracy": None if plan.accuracy is None else plan.accuracy._asdict(),
            "signs": diagnostics.diagnose(history),
            "command": command,
            "sizes": {"train": len(plan.dataset.train.labels), **sizes},
        },
        request=requests.describe(plan.request),
        rows=[row._asdict() for row in measured.rows],
        config={
            "retain_fraction": plan.spec.retain_fraction,
            "reference": plan.spec.reference,
            "training": asdict(plan.recipe),
            **({} if plan.spec.only is None else {"only": list(plan.spec.only)}),
            "options chosen": "defaults" if chosen is None else describe_choice(chosen),
            plan.method.name: asdict(plan.config),
        },
        versions=versions(),
        attacks=describe_attacks(
            split, plan.seed, matching=isinstance(plan.config, MatchingConfig)
        ),
        signals=measured.signals,
        class_accuracy=measured.class_accuracy,
        class_names=plan.dataset.class_names,
        history={
            "step": list(range(plan.unlearner.num_steps)),
            **{name: values.tolist() for name, values in history.items()},
        },
        auc_band=retrained_band(measured),
    )


def preprocessing(plan: Plan) -> str:
    """Return what a model gets as its inputs."""
    mean, std = plan.dataset.mean or (), plan.dataset.std or ()
    if plan.dataset.train.inputs.dtype == np.int32:
        return "tokens as they are in the data set"
    scaled = " (divided by 255)" if plan.dataset.train.inputs.dtype == np.uint8 else ""
    if {*mean} == {0.0} and {*std} == {1.0}:
        return f"inputs as they are in the data set{scaled}"
    return f"(inputs{scaled} - {few(mean)}) / {few(std)}"


def made_by(plan: Plan) -> dict[str, str]:
    """Return by model whose recipe made it: the library's or the user's."""
    recipe = plan.recipe
    whose = "library's recipe" if recipe == recipe_for(plan.model.name) else "recipe that you gave"
    trained = (
        f"trained from scratch by the {whose} ({recipe.epochs} epochs of SGD, batch size "
        f"{recipe.batch_size}, learning rate {recipe.learning_rate})"
    )
    yours, by_function = "yours, trained by a recipe that is not known here", callable(plan.retrain)
    references = ("retrain", "retrain_2") if plan.spec.reference == "retrain" else ()
    original = retrained = "trained by the function that you gave" if by_function else trained
    if plan.earlier is not None:
        original = "the unlearned model of the request before"
    elif plan.original is not None:
        original = yours
        retrained += (
            "" if by_function else "; if yours is another one, part of a gap comes from that"
        )
    if isinstance(plan.retrain, tuple):
        references, retrained = references[: len(plan.retrain)], yours
    return {"original": original, **dict.fromkeys(references, retrained)}


def warn_of_recipes(plan: Plan, rows: Mapping[str, Row]) -> str | None:
    """Return a warning if Retrain's test accuracy shows another recipe than the original's.

    Requests that take most of a class change the accuracy themselves and are passed over.

    Args:
      plan: of the run.
      rows: measurements by model.
    """
    labels, count = plan.dataset.train.labels, plan.dataset.num_classes
    kept = np.bincount(labels[plan.split.retain], minlength=count)
    original, retrain, second = (rows.get(name) for name in ("original", "retrain", "retrain_2"))
    lost = 2 * kept < np.bincount(labels, minlength=count)
    if original is None or retrain is None or lost.any():
        return None
    share = retrain.ta / 100
    noise = 200 * np.sqrt(2 * share * (1 - share) / len(plan.split.test))
    floor = max(noise, 0.0 if second is None else abs(second.ta - retrain.ta))
    if abs(original.ta - retrain.ta) <= floor:
        return None
    return (
        f"Retrain's test accuracy is {retrain.ta:.1f} %, the original's {original.ta:.1f} %: more "
        f"than the floor of {floor:.1f} percentage points apart, so their recipes may differ"
    )


def describe_choice(chosen: Selection) -> str:
    """Return how the options were chosen, and whether that needed the retrained model."""
    how = (
        "tuned against the retrained model, which a real deletion does not have,"
        if chosen.rule == "oracle"
        else "without Retrain, test set or attacks of this report,"
    )
    return f"{how} among {len(chosen.trials)} trials (tuning.json)"


def describe_attacks(split: Split, seed: int, *, matching: bool) -> list[dict[str, Any]]:
    """Return what each attack of the report sees, and what it shares with the method.

    Args:
      split: of the deletion.
      seed: of the run.
      matching: whether the method trains membership models, as LTU does.
    """
    members = requests.attack_members(split, seed=seed, size=ATTACK_SIZE)
    side = min(len(members.indices), len(split.test))
    source = "accessible retain" if members.seen else "retain examples the method never saw"
    related = (
        " Its feature is a function of the log-odds, which one of the method's membership models "
        "uses as well; the attack's model, members and non-members are different ones."
        if matching
        else ""
    )
    return [
        {
            "name": "SVC on confidence (MIA)",
            "data": f"fitted on {counted(side, 'member')} ({source}) and "
            f"{counted(side, 'test example')}",
            "shares_features": matching,
            "shares_data": members.seen,
            "sentence": f"Share of the forget set classified as non-member.{related}",
        },
        {
            "name": "Loss attack (AUC)",
            "data": f"{counted(len(split.forget), 'forget example')} and "
            f"{counted(len(split.test), 'test example')}",
            "shares_features": matching,
            "shares_data": False,
            "sentence": f"Nothing is fitted; a low loss counts as membership.{related}",
        },
    ]
