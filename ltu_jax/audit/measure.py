"""The report's numbers: a table row, per-example signals and per-class accuracy of each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ltu_jax.audit import summary
from ltu_jax.data.request import attack_members
from ltu_jax.training.supervised import predict
from ltu_jax.types import Problem, TrainedModel, Variables

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
    dataset, split, model, seed = problem
    rows = {
        "forget": split.forget,
        "retain": split.retain,
        "members": attack_members(split, seed=seed, size=ATTACK_SIZE).indices,
        "accessible": split.accessible,
        "inaccessible": np.setdiff1d(split.retain, split.accessible),
    }
    outputs = np.asarray(predict(model, trained.variables, dataset.train.inputs))
    test_inputs = dataset.heldout.inputs[split.test]
    logits = {part: outputs[index] for part, index in rows.items()}
    logits["test"] = np.asarray(predict(model, trained.variables, test_inputs))
    labels = {part: dataset.train.labels[index] for part, index in rows.items()}
    labels["test"] = dataset.heldout.labels[split.test]
    row = summary.evaluate(name, logits, labels, seconds=trained.seconds, seed=seed)
    return ModelMeasurements(
        row=row._replace(attack_success=attack_success(problem, trained.variables)),
        signals=summary.example_scores(logits, labels),
        class_accuracy=_class_accuracy(
            logits["test"], np.asarray(labels["test"]), dataset.num_classes
        ),
    )


def attack_success(problem: Problem, variables: Variables) -> float | None:
    """Return how often, in percent, a backdoor's trigger succeeds; None without a known trigger."""
    triggered = problem.dataset.triggered
    if triggered is None:
        return None
    classes = predict(problem.model, variables, triggered.inputs).argmax(-1)
    return 100.0 * float(np.mean(np.asarray(classes) == triggered.target))


def _class_accuracy(logits: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the accuracy of each class in percent; NaN for classes without test examples."""
    hits = np.bincount(labels[logits.argmax(-1) == labels], minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, 100.0 * hits / np.maximum(counts, 1), np.nan)
