"""The stages of a run: each is done once, exported, and found again by a run that goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ltu_jax.runs.tuning as selection
from ltu_jax.audit.measure import Measurements, measure
from ltu_jax.runs.networks import (RETRAINED, train_network, training_steps, unlearn_network)
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.progress import Progress
from ltu_jax.report.content import plain
from ltu_jax.files import write_json
from ltu_jax.runs.folder import Running, follows_from
from ltu_jax.runs.settings import Asked
from ltu_jax.training.invariants import check_reinitialised
from ltu_jax.training.loop import History
from ltu_jax.training.supervised import predict
from ltu_jax.types import Variables

_log = logging.getLogger(__name__)


def original_network(plan: Plan, running: Running, progress: Progress) -> Network:
    """Return the network that has seen the forget set: the caller's, or a freshly trained one."""
    if plan.original is None:
        return trained_network(plan, "original", running, progress)
    source = follows_from(plan, "original", plan.original)
    if done := running.finished(plan, "original", source):
        return done[0]
    warn_of_untrained(plan, plan.original)
    network = TrainedModel(plan.original, float("nan"))
    running.finish("original", source, network)
    return network


def warn_of_untrained(plan: Plan, original: Variables) -> None:
    """Warn if the network that was given does not know the examples it is to have been trained on.

    Most often it was trained on inputs that are scaled otherwise than `mean` and `std` say.
    """
    train = plan.dataset.train
    rows = np.linspace(0, len(train.labels) - 1, min(len(train.labels), 1000)).astype(int)
    labels = np.asarray(train.labels)[rows]
    right = np.mean(predict(plan.model, original, train.inputs[rows]).argmax(-1) == labels)
    most = np.bincount(labels).max() / len(labels)
    if right <= most:
        _log.warning(
            "the network that was given is right on %.0f %% of its training examples, no more than "
            "the most frequent class's %.0f %%; are these the data, and the mean and std, that it "
            "was trained with?",
            100 * right,
            100 * most,
        )


def trained_network(plan: Plan, name: str, running: Running, progress: Progress) -> Network:
    """Train `original`, or `retrain` or `retrain_2` on the retain set alone, and export it."""
    source = follows_from(plan, name)
    if done := running.finished(plan, name, source):
        return done[0]
    on_info = progress.phase(f"train {name}", training_steps(plan, name))
    with running.saver(name, source) as saver:
        network = train_network(plan, name, on_info, saver)
    running.finish(name, source, network)
    return network


def unlearned_network(
    plan: Plan, original: TrainedModel, running: Running, progress: Progress
) -> tuple[TrainedModel, History]:
    """Run the method on the original and export what it leaves."""
    source = follows_from(plan, "unlearned", original.variables)
    if done := running.finished(plan, "unlearned", source):
        return done
    on_info = progress.phase(f"unlearn ({plan.method.name})", plan.unlearner.num_steps)
    with running.saver("unlearned", source) as saver:
        network, history = unlearn_network(plan, original.variables, on_info=on_info, saver=saver)
    running.finish("unlearned", source, network, history)
    return network, history


def references(
    plan: Plan, original: TrainedModel, running: Running, progress: Progress
) -> dict[str, TrainedModel]:
    """Train and export the networks that never see the forget set."""
    trained = {}
    for name in RETRAINED:
        trained[name] = trained_network(plan, name, running, progress)
        check_reinitialised(trained[name].variables.params, original.variables.params)
    return trained


def choose(
    plan: Plan,
    networks: Mapping[str, TrainedModel],
    asked: Asked,
    running: Running,
    progress: Progress,
    folder: Path,
) -> selection.Selection:
    """Choose the method's options among trials, and write all to `tuning.json` in `folder`."""
    if "chosen" in running.records():
        return selection.read(plan.method, running.records()["chosen"])
    trials = selection.DEFAULT_TRIALS if asked.trials is None else asked.trials
    on_info = progress.phase(f"choose options ({plan.method.name})", trials)

    def gap(network: TrainedModel) -> float:
        compared = {"retrain": networks["retrain"], plan.method.name: network}
        found = measure(plan.problem, compared, on_done=lambda done: None).rows[-1].avg_gap
        return float("nan") if found is None else found

    chosen = selection.select(
        plan,
        networks["original"].variables,
        trials=trials,
        oracle=gap if asked.select == "oracle" else None,
        on_trial=lambda number, trial: on_info(
            number, trial.score._asdict() if trial.score else {}
        ),
    )
    write_json(folder / "tuning.json", plain(chosen.describe()))
    running.note("chosen", plain(chosen.describe()))
    return chosen


def save_scores(measured: Measurements, folder: Path) -> None:
    """Write the raw per-example scores, from which every number of the report can be had again."""
    flat: dict[str, Any] = {
        f"{model}/{name}": values
        for model, scores in measured.signals.items()
        for name, values in scores.items()
    }
    np.savez_compressed(folder / "scores.npz", **flat)
