"""The report's content from a finished run: settings, sizes, measurements and attacks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import ltu_jax.data.request as requests
from ltu_jax.audit import bounds
from ltu_jax.audit.measure import ATTACK_SIZE, Measurements
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
    return ReportContent(
        run={
            "data": plan.dataset.name,
            "model": plan.model.name,
            "method": plan.method.name,
            "uses_validation": plan.unlearner.invariants.uses_validation,
            "options_chosen": "default" if chosen is None else chosen.rule,
            "seeds": {"run": plan.seed},
            "warnings": list(plan.warnings),
            "made_by": made_by(plan),
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


def retrained_band(measured: Measurements) -> tuple[float, float] | None:
    """Return the interval of the loss attack's AUC from both Retrains; None without them."""
    retrained = [measured.signals.get(name) for name in ("retrain", "retrain_2")]
    if any(one is None for one in retrained):
        return None
    scores = [(-one["forget_loss"], -one["test_loss"]) for one in retrained if one is not None]
    return bounds.retrained_auc_band(*scores)


def made_by(plan: Plan) -> dict[str, str]:
    """Return by model whose recipe made it: the library's or the user's."""
    recipe = plan.recipe
    whose = "library's recipe" if recipe == recipe_for(plan.model.name) else "recipe that you gave"
    trained = (
        f"trained from scratch by the {whose} ({recipe.epochs} epochs of SGD, batch size "
        f"{recipe.batch_size}, learning rate {recipe.learning_rate})"
    )
    original = trained
    if plan.earlier is not None:
        original = "the unlearned model of the request before"
    elif plan.original is not None:
        original = "yours, trained by a recipe that is not known here"
        trained += "; if yours is another one, part of a gap comes from that"
    references = ("retrain", "retrain_2") if plan.spec.reference == "retrain" else ()
    return {"original": original, **dict.fromkeys(references, trained)}


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
