"""Forget sets of the experiments: the scenarios of `ltu compare`, and outlying to entangled ones.

The nearest neighbours of an entangled set, in the original model's outputs, stay in the training
set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.audit import signals
from ltu_jax.data.scenarios import SCENARIOS, Outputs, Scenario
from ltu_jax.types import Dataset

SHARE = 0.05


def neighbourhood(seed: int, data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return a random example of a random class and its nearest neighbours within the class.

    They are near each other, and the rest of the class is near to them.
    """
    features, labels = _unit(outputs()), data.train.labels
    rng = np.random.default_rng([seed, 1])
    centre = rng.integers(len(labels))
    distance = np.linalg.norm(features - features[centre], axis=1)
    distance[labels != labels[centre]] = np.inf
    return np.argsort(distance)[: _size(data)]


def doubles(seed: int, data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return one of each pair of nearest neighbours, from the closest pair on."""
    del seed
    features, labels = _unit(outputs()), data.train.labels
    nearest, distance = nearest_of_class(features, labels)
    chosen: list[int] = []
    taken: set[int] = set()
    for row in np.argsort(distance):
        if row not in taken and nearest[row] not in taken:
            chosen.append(int(row))
            taken |= {int(row), int(nearest[row])}
        if len(chosen) == _size(data):
            break
    return np.asarray(chosen)


def outliers(seed: int, data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return the examples whose nearest neighbour of their class is furthest."""
    del seed
    _, distance = nearest_of_class(_unit(outputs()), data.train.labels)
    return np.argsort(-distance)[: _size(data)]


def hard(seed: int, data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return the examples of the smallest margin under the original model."""
    del seed
    return np.argsort(signals.margin(outputs(), data.train.labels))[: _size(data)]


def half_a_class(seed: int, data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return a random half of a class."""
    del outputs
    rows = np.flatnonzero(data.train.labels == seed % data.num_classes)
    return np.random.default_rng([seed, 2]).permutation(rows)[: len(rows) // 2]


def overlap(features: np.ndarray, labels: np.ndarray, forget: np.ndarray) -> float:
    """Return the overlap score: the share of forget examples whose nearest neighbour is retained.

    Neighbours are searched among all training examples, whatever their class, by the cosine of the
    original's outputs; the share that a random set of that size would have is divided out, so that
    1 is a random set's score and a class forgotten whole comes near 0.
    """
    kept = np.setdiff1d(np.arange(len(labels)), forget)
    unit = _unit(features)
    near_kept = 1 - unit[forget] @ unit[kept].T
    near_gone = 1 - unit[forget] @ unit[forget].T
    np.fill_diagonal(near_gone, np.inf)
    share = np.mean(near_kept.min(1) <= near_gone.min(1))
    return float(share / (len(kept) / (len(labels) - 1)))


def nearest_of_class(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's nearest neighbour of its class, `[N]` rows, and how far it is `[N]`."""
    nearest, distance = np.zeros(len(labels), int), np.full(len(labels), np.inf)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        away = 1 - features[rows] @ features[rows].T
        np.fill_diagonal(away, np.inf)
        nearest[rows], distance[rows] = rows[away.argmin(1)], away.min(1)
    return nearest, distance


def _unit(outputs: np.ndarray) -> np.ndarray:
    centred = outputs - outputs.mean(1, keepdims=True)
    return centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-12)


def _size(data: Dataset) -> int:
    return max(1, round(SHARE * len(data.train.labels)))


def _by_rows(choose: Callable[[int, Dataset, Outputs], np.ndarray]):
    """Return the request for the ids of the rows that `choose` returns."""
    return lambda seed, data, outputs: requests.by_ids(
        data.train_ids[choose(seed, data, outputs)].tolist()
    )


FORGET_SETS: dict[str, Scenario] = {
    **{name: scenario for name, scenario in SCENARIOS.items() if name != "ids"},
    "random_5": Scenario(
        "a random 5 %", lambda seed, data, _: requests.by_fraction(SHARE, seed=seed)
    ),
    "doubles": Scenario("one of each pair of nearest neighbours", _by_rows(doubles)),
    "neighbourhood": Scenario("an example and its neighbours", _by_rows(neighbourhood)),
    "half_a_class": Scenario("half of a class", _by_rows(half_a_class)),
    "hard": Scenario("the hardest examples", _by_rows(hard)),
    "outliers": Scenario("outliers", _by_rows(outliers)),
}
