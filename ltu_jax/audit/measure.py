"""The report's numbers: a table row, per-example signals and per-class accuracy of each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ltu_jax.audit import bounds, summary
from ltu_jax.data.request import attack_members
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Problem, Split, TrainedModel, Variables

# The SVC attack's cost grows with the square of its examples; 2,000 a side take two seconds.
ATTACK_SIZE = 2000


class Measurements(NamedTuple):
    """The report's numbers of all models.

    Attributes:
      rows: one per model, with gaps to `retrain` if it is among them.
      signals: per model, the scores of single examples, see `summary.example_scores`.
      class_accuracy: per model, test accuracy of every class, in percent.
    """

    rows: list[summary.Row]
    signals: dict[str, dict[str, np.ndarray]]
    class_accuracy: dict[str, np.ndarray]


class ModelMeasurements(NamedTuple):
    """`Measurements` of one model; `row` has no gaps yet."""

    row: summary.Row
    signals: dict[str, np.ndarray]
    class_accuracy: np.ndarray


def measure_models(
    problem: Problem, models: Mapping[str, TrainedModel], on_done: Callable[[int], None]
) -> Measurements:
    """Measure the models on the test set and on examples that no method has seen.

    Args:
      problem: the deletion.
      models: by their names in the report; gaps are differences to `retrain`.
      on_done: called with 0, 1, ... after each model.
    """
    measured = {}
    for done, (name, trained) in enumerate(models.items()):
        measured[name] = measure_model(problem, name, trained)
        on_done(done)
    return Measurements(
        rows=summary.with_gaps([one.row for one in measured.values()]),
        signals={name: one.signals for name, one in measured.items()},
        class_accuracy={name: one.class_accuracy for name, one in measured.items()},
    )


def measure_model(problem: Problem, name: str, trained: TrainedModel) -> ModelMeasurements:
    """Measure one model; see `measure_models`."""
    logits, labels = set_outputs(problem, trained.variables)
    row = summary.evaluate(name, logits, labels, seconds=trained.seconds, seed=problem.seed)
    return ModelMeasurements(
        row=row._replace(attack_success=attack_success(problem, trained.variables)),
        signals=summary.example_scores(logits, labels),
        class_accuracy=class_accuracy(
            *count_classes(logits["test"], labels["test"], problem.dataset.num_classes)
        ),
    )


def set_outputs(
    problem: Problem, variables: Variables
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return logits `[N, C]` and labels `[N]` of every set of the audit, see `audit_sets`."""
    dataset, split = problem.dataset, problem.split
    sets = audit_sets(split, problem.seed)
    outputs = np.asarray(predict(problem.model, variables, dataset.train.inputs))
    test_inputs = dataset.heldout.inputs[split.test]
    logits = {name: outputs[rows] for name, rows in sets.items()}
    logits["test"] = np.asarray(predict(problem.model, variables, test_inputs))
    labels = {name: np.asarray(dataset.train.labels)[rows] for name, rows in sets.items()}
    labels["test"] = np.asarray(dataset.heldout.labels)[split.test]
    return logits, labels


def audit_sets(split: Split, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of `forget`, `retain`, `accessible`, `inaccessible` and `members`.

    `members` are retain examples to which attacks are fitted, see `request.attack_members`.
    """
    return {
        "forget": split.forget,
        "retain": split.retain,
        "members": attack_members(split, seed=seed, size=ATTACK_SIZE).indices,
        "accessible": split.accessible,
        "inaccessible": np.setdiff1d(split.retain, split.accessible),
    }


def retrained_band(measured: Measurements) -> tuple[float, float] | None:
    """Return the interval of the loss attack's AUC from both Retrains; None without them."""
    retrained = [measured.signals.get(name) for name in ("retrain", "retrain_2")]
    if any(one is None for one in retrained):
        return None
    losses = [(-one["forget_loss"], -one["test_loss"]) for one in retrained if one is not None]
    return bounds.retrained_auc_band(*losses)


def attack_success(problem: Problem, variables: Variables) -> float | None:
    """Return how often, in percent, a backdoor's trigger succeeds; None without a known trigger."""
    triggered = problem.dataset.triggered
    if triggered is None:
        return None
    classes = predict(problem.model, variables, triggered.inputs).argmax(-1)
    return 100.0 * float(np.mean(np.asarray(classes) == triggered.target))


def count_classes(logits: Array, labels: Array, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number `[C]` of right predictions, and of examples, of each class."""
    labels = np.asarray(labels)
    right = labels[np.argmax(logits, axis=-1) == labels]
    return np.bincount(right, minlength=num_classes), np.bincount(labels, minlength=num_classes)


def class_accuracy(right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the accuracy of each class in percent; NaN for classes without test examples."""
    return np.where(counts > 0, 100.0 * right / np.maximum(counts, 1), np.nan)
