"""Whom a comparison forgets: the four scenarios of the literature on any labelled data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import ltu_jax.data.request as request
from ltu_jax.types import Dataset


class Scenario(NamedTuple):
    """A way to choose the forget set.

    Attributes:
      title: as a heading says it.
      request: `(seed, dataset) -> Request`; another seed forgets others.
      dataset: `dataset -> dataset` that the networks are trained on.
    """

    title: str
    request: Callable[[int, Dataset], request.Request]
    dataset: Callable[[Dataset], Dataset] = lambda dataset: dataset


def coarse(dataset: Dataset) -> Dataset:
    """Return the data set with classes merged in pairs, and a group column `class` of the old ones.

    Classes 0 and 1 become one, 2 and 3 the next; an odd last class stays alone.
    """
    names = np.asarray(dataset.class_names)
    pairs = tuple(" or ".join(names[i : i + 2]) for i in range(0, len(names), 2))
    merged = {
        part: examples._replace(labels=(examples.labels // 2).astype(examples.labels.dtype))
        for part, examples in (("train", dataset.train), ("heldout", dataset.heldout))
    }
    groups = {**dataset.groups, "class": names[dataset.train.labels]}
    name = f"{dataset.name}-coarse"
    return dataset._replace(name=name, class_names=pairs, groups=groups, **merged)


SCENARIOS: dict[str, Scenario] = {
    "random_10": Scenario("a random 10 %", lambda seed, data: request.by_fraction(0.1, seed=seed)),
    "random_50": Scenario("a random 50 %", lambda seed, data: request.by_fraction(0.5, seed=seed)),
    "class": Scenario("one class", lambda seed, data: request.by_class(seed % data.num_classes)),
    "subclass": Scenario(
        "one of two classes that are trained as one",
        lambda seed, data: request.by_group("class", _fine_classes(data)[seed % _count(data)]),
        coarse,
    ),
}


def _fine_classes(dataset: Dataset) -> list[str]:
    return sorted(set(dataset.groups["class"].tolist()))


def _count(dataset: Dataset) -> int:
    return len(_fine_classes(dataset))
