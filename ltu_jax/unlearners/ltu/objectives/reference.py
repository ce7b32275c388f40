"""Surrogate targets: estimates of the outputs that a retrained model gives the forget set.

For a random forget set, held-out examples of the same classes serve: the original model has seen
neither them nor, after retraining, the forget set. For a distinct subpopulation they do not serve:
all images of a class, one of two subclasses that share a label, or all records of a site. The
original recognises held-out examples of the subpopulation, and a retrained model would not. There a
*reference model*, trained on the accessible retain set, estimates the retrained model's outputs.
Its logits are rescaled so that its mean held-out margin equals the original's, which has learnt
from more examples.

A classifier two-sample test detects a distinct subpopulation. The original was trained on forget
and retain examples alike, so on a random forget set no classifier separates its outputs from those
on retain examples.

References:
  Lopez-Paz & Oquab, *Revisiting classifier two-sample tests*, arXiv 1610.06545.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, NamedTuple

import jax
import numpy as np
import scipy.special

from ltu_jax.errors import DivergedError
from ltu_jax.training.supervised import predict, recipe_for, train
from ltu_jax.types import Array, Examples, Key, Model, UnlearnData, Variables

_log = logging.getLogger(__name__)

# "heldout": held-out examples of the class. "reference": the outputs of a reference model. "auto":
# "reference" if a class is forgotten as a whole or the two-sample test detects a distinct
# subpopulation, else "heldout".
TargetSource = Literal["heldout", "reference", "auto"]
# Random forget sets give statistics of standard deviation 1.5: about one in 300 exceeds this.
SHIFT_THRESHOLD = 4.0
MIN_TESTED, MAX_TESTED = 10, 1000  # examples of each sample in the two-sample test
LEARNING_RATE_FACTORS = (1.0, 0.1, 0.01)  # tried one after another while training diverges


class Reference(NamedTuple):
    """Outputs of a model that was trained without the forget set.

    Attributes:
      forget: `[n, C]` rescaled logits for the forget set.
      validation: `[N, C]` rescaled logits for validation examples.
      classes: `[C]` booleans, the classes whose targets come from this model.
    """

    forget: np.ndarray
    validation: np.ndarray
    classes: np.ndarray

    def agrees(self, original: Array) -> np.ndarray:
        """Return `[N]` booleans: the validation examples with the original's prediction.

        Where the predictions differ, those of a retrained model may differ as well.
        """
        return self.validation.argmax(1) == np.asarray(original).argmax(1)


def find_reference(
    key: Key,
    model: Model,
    data: UnlearnData,
    outputs: UnlearnData,
    gone: Array,
    source: TargetSource,
) -> Reference | None:
    """Train a reference model if `source` needs one.

    Args:
      key: PRNG key of the training.
      model: takes raw inputs.
      data: the examples that the method may see.
      outputs: the original's logits for `data`, in place of inputs.
      gone: `[C]` booleans, the classes without a retain example: distinct subpopulations.
      source: see `TargetSource`.

    Returns:
      The reference; None if targets of every class are held-out examples.

    Raises:
      DivergedError: the training diverged at every learning rate.
    """
    gone = np.asarray(gone)
    classes = np.zeros_like(gone)
    if source == "reference":
        classes[:] = True
    elif source == "auto":
        shifted = two_sample_statistic(outputs.forget, outputs.retain) > SHIFT_THRESHOLD
        classes = gone | shifted
    if not classes[np.asarray(data.forget.labels)].any():
        return None
    variables = train_reference(key, model, data.retain)
    forget, validation = (
        np.asarray(predict(model, variables, part.inputs))
        for part in (data.forget, data.validation)
    )
    warn_if_inaccurate(validation, outputs.validation, gone)
    scale = _mean_margin(outputs.validation.inputs) / _mean_margin(validation)
    return Reference(scale * forget, scale * validation, classes)


def train_reference(key: Key, model: Model, retain: Examples) -> Variables:
    """Train by the model's recipe, with a lower learning rate after each divergence.

    Raises:
      DivergedError: the training diverged at every learning rate.
    """
    recipe = recipe_for(model.name)
    for factor in LEARNING_RATE_FACTORS:
        slower = replace(recipe, learning_rate=factor * recipe.learning_rate)
        try:
            return train(model, retain, slower, key=key)[0]
        except DivergedError as error:
            _log.info("reference model, learning rate times %g: %s", factor, error)
    raise DivergedError(
        "the training of the reference model on the accessible retain set diverged at every "
        'learning rate; raise `retain_fraction`, or set target_source to "heldout"'
    )


def warn_if_inaccurate(logits: np.ndarray, original: Examples, gone: np.ndarray) -> None:
    """Log a warning if the reference's held-out accuracy is below half of the original's.

    Args:
      logits: `[N, C]` the reference's, for validation examples.
      original: the original's logits for them, and their labels.
      gone: `[C]` booleans, the classes without a retain example; they do not count.
    """
    labels = np.asarray(original.labels)
    rows = ~gone[labels]
    if not rows.any():
        return
    accuracy, before = (
        float(np.mean(np.asarray(outputs).argmax(1)[rows] == labels[rows]))
        for outputs in (logits, original.inputs)
    )
    if accuracy < before / 2:
        _log.warning(
            "the reference model's held-out accuracy is %.0f %%, the original's %.0f %%: its "
            "outputs may differ from those of a retrained model; raise `retain_fraction`, or set "
            'target_source to "heldout"',
            100 * accuracy,
            100 * before,
        )


def _mean_margin(logits: Array) -> float:
    """Return the mean difference of the largest and the second logit."""
    second, first = np.partition(np.asarray(logits), -2, axis=1)[:, -2:].T
    return float(np.mean(first - second)) + 1e-6


def two_sample_statistic(forget: Examples, retain: Examples) -> float:
    """Return the statistic of a classifier two-sample test: forget against retain examples.

    A random forest is trained on the original's outputs and evaluated by cross-validation. Within
    each class, its predictions are compared by the Mann-Whitney statistic; these are added up.

    Args:
      forget: logits `[n, C]` and labels `[n]` of the forget set.
      retain: those of the accessible retain set.

    Returns:
      The statistic in standard deviations of independent ranks. Under the null hypothesis its own
      standard deviation is about 1.5, since cross-validated predictions are dependent. 0 if one
      sample has fewer than `MIN_TESTED` examples.

    Example:
      >>> outputs, labels = np.random.default_rng(0).normal(size=(400, 3)), np.arange(400) % 2
      >>> retain = Examples(outputs[50:], labels[50:])
      >>> two_sample_statistic(Examples(outputs[:50], labels[:50]), retain) < SHIFT_THRESHOLD
      True
      >>> two_sample_statistic(Examples(outputs[:50] + 3, labels[:50]), retain) > SHIFT_THRESHOLD
      True
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    shared = np.intersect1d(forget.labels, retain.labels)
    parts = [_of_classes(np.asarray(x), np.asarray(y), shared) for x, y in (forget, retain)]
    if min(len(labels) for _, labels in parts) < MIN_TESTED:
        return 0.0
    outputs, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    is_forget = np.repeat([True, False], [len(part[1]) for part in parts])
    forest = RandomForestClassifier(
        50, min_samples_leaf=5, class_weight="balanced_subsample", random_state=0
    )
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    features = np.column_stack([outputs, labels[:, None] == shared])
    scores = cross_val_predict(forest, features, is_forget, cv=folds, method="predict_proba")
    return rank_statistic(np.asarray(scores)[:, 1], labels, is_forget)


def _of_classes(
    outputs: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples of these classes, at most `MAX_TESTED` at evenly spaced positions."""
    rows = np.flatnonzero(np.isin(labels, classes))
    if len(rows) > MAX_TESTED:
        rows = rows[((np.arange(MAX_TESTED) + 0.5) / MAX_TESTED * len(rows)).astype(int)]
    return outputs[rows], labels[rows]


def rank_statistic(scores: np.ndarray, labels: np.ndarray, is_forget: np.ndarray) -> float:
    """Return the Mann-Whitney statistic stratified by label, in standard deviations."""
    from scipy.stats import mannwhitneyu

    above, variance = 0.0, 0.0
    for label in np.unique(labels):
        forget, retain = (scores[(labels == label) & side] for side in (is_forget, ~is_forget))
        n, m = len(forget), len(retain)
        if n and m:
            above += n * (mannwhitneyu(forget, retain).statistic / (n * m) - 0.5)
            variance += n**2 * (n + m + 1) / (12 * n * m)
    return float(above / np.sqrt(variance)) if variance else 0.0


def surrogate_targets(
    labels: Array,
    heldout: tuple[Array, Array],
    gone: Array,
    reference: Reference | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return non-member outputs to use as targets for the forget set.

    Targets of a class are the original's outputs on held-out examples of it, or the reference's
    outputs on its forget examples where there is a reference. A class without retain examples gets
    held-out examples of the other classes, under its own label: a retrained model never predicts
    that class. A class without held-out examples gets all others, under their own labels.

    Args:
      labels: `[n]` of the forget set.
      heldout: logits `[N, C]` and labels `[N]` of validation examples.
      gone: `[C]` booleans, the classes without a retain example.
      reference: see `find_reference`.

    Returns:
      Logits `[M, C]` and labels `[M]`, class by class in the proportions of the forget set. M is a
      multiple of n, large enough that all held-out examples are used.
    """
    labels, heldout = np.asarray(labels), (np.asarray(heldout[0]), np.asarray(heldout[1]))
    rows, target_labels = surrogate_rows(labels, heldout, gone)
    if reference is None:
        return heldout[0][rows], target_labels
    logits, start = heldout[0][rows].copy(), 0
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        end = start + count * len(rows) // len(labels)
        if reference.classes[label]:
            own = reference.forget[labels == label]
            logits[start:end] = own[_evenly_by_rank(own, label, end - start)]
            target_labels[start:end] = label
        start = end
    return logits, target_labels


def surrogate_rows(
    labels: Array, heldout: tuple[Array, Array], gone: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out rows `[M]` of `surrogate_targets` and their labels `[M]`."""
    labels, (logits, own_labels), gone = jax.tree.map(np.asarray, (labels, tuple(heldout), gone))
    classes, counts = np.unique(labels, return_counts=True)
    repeats = -(-10 * len(own_labels) // len(labels))
    chosen = []
    for label, count in zip(classes, repeats * counts, strict=True):
        target_labels = np.full_like(own_labels, label) if gone[label] else own_labels
        fits = ~gone[own_labels] if gone[label] else own_labels == label
        rows = np.flatnonzero(fits if fits.any() else ~gone[own_labels])
        rows = rows[_evenly_by_rank(logits[rows], target_labels[rows], count)]
        chosen.append((rows, target_labels[rows]))
    rows, target_labels = zip(*chosen, strict=True)
    return np.concatenate(rows), np.concatenate(target_labels)


def _evenly_by_rank(logits: np.ndarray, labels: Array, count: int) -> np.ndarray:
    """Return `count` rows at evenly spaced ranks of log-odds: a sample without sampling noise."""
    others = np.array(logits)
    place = np.arange(len(others)), np.broadcast_to(labels, len(others))
    others[place] = -np.inf
    order = np.argsort(logits[place] - scipy.special.logsumexp(others, axis=1))
    return order[((np.arange(count) + 0.5) / count * len(order)).astype(int)]
