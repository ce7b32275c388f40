"""Stand-ins: examples whose scores show what those of the forget set should become.

Held-out examples of the same classes are what a random forget set would be, had nobody trained on
it. A forget set *of a kind of its own* is another matter: all images of a class, or of one of two
kinds that share a label, or all records of a site. Held-out examples of that kind look familiar to
the original, and a network retrained without the kind would not know it. Who that network would be
is shown by a *reference*, trained on the accessible retain set alone: its outputs on the forget set
stand in for what Retrain's would be. They are scaled until it is as sure of held-out examples as
the original, which has learnt from more.

Whether a forget set is of its own kind is not told but tested, by a classifier two-sample
test (Lopez-Paz & Oquab, arXiv 1610.06545): the original has been trained on forget and retain
examples alike, so if the forget set was drawn at random, nothing tells the two apart.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import jax
import numpy as np

from ltu_jax.errors import DivergedError, InputError
from ltu_jax.training.supervised import predict, recipe_for, train
from ltu_jax.types import Array, Examples, Key, Model, UnlearnData, Variables
from ltu_jax.unlearners.ltu.membership import log_odds

_log = logging.getLogger(__name__)

StandIns = Literal["heldout", "reference", "tested"]
OWN_KIND = 4.0  # random forget sets have a spread of 1.5: about one in 300 gets there
LEAST_TESTED = 10  # examples a side; fewer cannot be told apart
MOST_TESTED = 1000  # a side; more would tell no more
SLOWER = (1.0, 0.1, 0.01)  # learning rates at which a reference is tried, over the recipe's


class Reference(NamedTuple):
    """What a network that never saw the forget set answers.

    Attributes:
      forget: `[n, C]` logits for the forget set, scaled.
      validation: `[N, C]` logits for validation examples, scaled.
      classes: `[C]` booleans: of which classes forget examples are of their own kind.
    """

    forget: np.ndarray
    validation: np.ndarray
    classes: np.ndarray

    def agrees(self, original: Array) -> np.ndarray:
        """Return `[N]` booleans: which validation examples it answers as the original does.

        Where it does not, a retrained network may not either, since it does not know the kind.
        """
        return self.validation.argmax(1) == np.asarray(original).argmax(1)


def check_stand_ins(stand_ins: str) -> None:
    """Raise `InputError` unless there are such stand-ins."""
    if stand_ins not in get_args(StandIns):
        raise InputError(f"stand_ins is {stand_ins}; choose one of {', '.join(get_args(StandIns))}")


def find_reference(
    key: Key,
    model: Model,
    data: UnlearnData,
    outputs: UnlearnData,
    gone: Array,
    wanted: StandIns,
) -> Reference | None:
    """Train a reference where one is wanted.

    Args:
      key: of its training.
      model: takes raw inputs.
      data: what the method may see.
      outputs: logits of the original for all of that, in place of inputs.
      gone: `[C]` booleans, the classes of which no retain example is left: kinds of their own.
      wanted: `"heldout"` never, `"reference"` for all classes, `"tested"` for those that are gone,
        and for the others if their forget examples can be told from accessible ones.

    Returns:
      The reference; None if held-out examples stand in for every class.

    Raises:
      DivergedError: its training became NaN at every learning rate tried.
    """
    gone = np.asarray(gone)
    classes = np.zeros_like(gone)
    if wanted == "reference":
        classes[:] = True
    elif wanted == "tested":
        own = told_apart(outputs.forget, outputs.retain) > OWN_KIND
        classes = gone | own
    if not classes[np.asarray(data.forget.labels)].any():
        return None
    variables = _trained(key, model, data.retain)
    forget, validation = (
        np.asarray(predict(model, variables, part.inputs))
        for part in (data.forget, data.validation)
    )
    _check_learnt(validation, outputs.validation, gone)
    scale = _sureness(outputs.validation.inputs) / _sureness(validation)
    return Reference(scale * forget, scale * validation, classes)


def _trained(key: Key, model: Model, retain: Examples) -> Variables:
    """Train by the network's recipe, more slowly where that is too fast for so few examples."""
    recipe = recipe_for(model.name)
    for share in SLOWER:
        slower = replace(recipe, learning_rate=share * recipe.learning_rate)
        try:
            return train(model, retain, slower, key=key)[0]
        except DivergedError as error:
            _log.info("the reference's training at %g times the learning rate: %s", share, error)
    raise DivergedError(
        "the reference, which is to say what the forget set should become, cannot be trained on "
        'the accessible examples; raise --retain-fraction, or set stand_ins to "heldout"'
    )


def _check_learnt(answers: np.ndarray, original: Examples, gone: np.ndarray) -> None:
    """Warn of a reference that knows so little that it says nothing of a retrained network."""
    labels = np.asarray(original.labels)
    rows = ~gone[labels]
    if not rows.any():
        return
    own, others = (
        float(np.mean(np.asarray(logits).argmax(1)[rows] == labels[rows]))
        for logits in (answers, original.inputs)
    )
    if own < others / 2:
        _log.warning(
            "the reference, trained on the accessible examples, answers %.0f %% of held-out "
            "examples rightly, the original %.0f %%: it may not show what a network retrained "
            "without the forget set would answer; raise --retain-fraction, or set stand_ins to "
            '"heldout"',
            100 * own,
            100 * others,
        )


def _sureness(logits: Array) -> float:
    """Return the mean distance of the largest logit from the next."""
    second, first = np.partition(np.asarray(logits), -2, axis=1)[:, -2:].T
    return float(np.mean(first - second)) + 1e-6


def told_apart(forget: Examples, retain: Examples) -> float:
    """Return how clearly forget examples can be told from accessible ones of their own classes.

    Trees learn to, on the original's outputs, and say so of examples that they were not grown on.
    Within each class their answers are ranked (Mann & Whitney), over classes the ranks are added
    up.

    Args:
      forget: logits `[n, C]` and labels `[n]` of the forget set.
      retain: those of the accessible retain set.

    Returns:
      The statistic in standard deviations, of ranks that are independent; those of trees are
      not quite, and spread half as much again. 0 if there are too few to tell.

    >>> outputs, labels = np.random.default_rng(0).normal(size=(400, 3)), np.arange(400) % 2
    >>> retain = Examples(outputs[50:], labels[50:])
    >>> told_apart(Examples(outputs[:50], labels[:50]), retain) < OWN_KIND
    True
    >>> told_apart(Examples(outputs[:50] + 3, labels[:50]), retain) > OWN_KIND
    True
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    shared = np.intersect1d(forget.labels, retain.labels)
    parts = [_some(np.asarray(x), np.asarray(y), shared) for x, y in (forget, retain)]
    if min(len(labels) for _, labels in parts) < LEAST_TESTED:
        return 0.0
    outputs, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    is_forget = np.repeat([True, False], [len(part[1]) for part in parts])
    trees = RandomForestClassifier(
        50, min_samples_leaf=5, class_weight="balanced_subsample", random_state=0
    )
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    seen = np.column_stack([outputs, labels[:, None] == shared])
    said = cross_val_predict(trees, seen, is_forget, cv=folds, method="predict_proba")[:, 1]
    return _rank_statistic(said, labels, is_forget)


def _some(outputs: Array, labels: Array, shared: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return examples of the classes that both sides have, evenly spaced if they are many."""
    rows = np.flatnonzero(np.isin(labels, shared))
    if len(rows) > MOST_TESTED:
        rows = rows[((np.arange(MOST_TESTED) + 0.5) / MOST_TESTED * len(rows)).astype(int)]
    return outputs[rows], labels[rows]


def _rank_statistic(said: np.ndarray, labels: np.ndarray, is_forget: np.ndarray) -> float:
    from scipy.stats import mannwhitneyu

    above, variance = 0.0, 0.0
    for label in np.unique(labels):
        forget, retain = (said[(labels == label) & side] for side in (is_forget, ~is_forget))
        n, m = len(forget), len(retain)
        if n and m:
            above += n * (mannwhitneyu(forget, retain).statistic / (n * m) - 0.5)
            variance += n**2 * (n + m + 1) / (12 * n * m)
    return float(above / np.sqrt(variance)) if variance else 0.0


def stand_ins(
    labels: Array,
    heldout: tuple[Array, Array],
    gone: Array,
    reference: Reference | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs of non-members whose scores the forget set should come to share.

    They are held-out examples under the original model, class by class in the proportions of the
    forget set. A class that is forgotten as a whole has no such stand-ins: images of it look
    familiar to the original model, while a model retrained without the class never answers with
    it. It is represented by held-out images of the remaining classes, under the forgotten label.
    A class that validation happens to lack is represented by all others, under their own labels.
    Classes of which the reference knows better are represented by its outputs on the forget set.

    Args:
      labels: `[n]` of the forget set.
      heldout: logits `[N, C]` and labels `[N]` of validation examples.
      gone: `[C]` booleans, the classes of which no retain example is left.
      reference: see `find_reference`.

    Returns:
      Logits `[M, C]` and labels `[M]`, with M a multiple of n that is large enough for the
      proportions to be kept without leaving held-out examples out.
    """
    labels, heldout = np.asarray(labels), (np.asarray(heldout[0]), np.asarray(heldout[1]))
    rows, under = stand_in_rows(labels, heldout, gone)
    if reference is None:
        return heldout[0][rows], under
    logits, start = heldout[0][rows].copy(), 0
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        end = start + count * len(rows) // len(labels)
        if reference.classes[label]:
            own = reference.forget[labels == label]
            logits[start:end], under[start:end] = own[_by_rank(own, label, end - start)], label
        start = end
    return logits, under


def stand_in_rows(
    labels: Array, heldout: tuple[Array, Array], gone: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return which held-out examples are `stand_ins`, `[M]` rows, and under which labels `[M]`."""
    labels, (pool_logits, pool_labels), gone = jax.tree.map(np.asarray, (labels, heldout, gone))
    classes, counts = np.unique(labels, return_counts=True)
    repeats = -(-10 * len(pool_labels) // len(labels))
    chosen = []
    for label, count in zip(classes, repeats * counts, strict=True):
        under = np.full_like(pool_labels, label) if gone[label] else pool_labels
        fit_in = ~gone[pool_labels] if gone[label] else pool_labels == label
        rows = np.flatnonzero(fit_in if fit_in.any() else ~gone[pool_labels])
        rows = rows[_by_rank(pool_logits[rows], under[rows], count)]
        chosen.append((rows, under[rows]))
    rows, under = zip(*chosen, strict=True)
    return np.concatenate(rows), np.concatenate(under)


def _by_rank(logits: np.ndarray, labels: Array, count: int) -> np.ndarray:
    """Return `count` rows at evenly spaced ranks of log-odds: their distribution without noise."""
    labels = np.broadcast_to(labels, len(logits))
    order = np.argsort(np.asarray(log_odds(logits, labels))[:, 0])
    return order[((np.arange(count) + 0.5) / count * len(order)).astype(int)]
