"""Scenarios of a comparison: ways to choose the forget set on any labelled data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltu_jax.data.request import Request, by_class, by_fraction, by_group
from ltu_jax.errors import InputError
from ltu_jax.types import Dataset

Outputs = Callable[[], np.ndarray]


class Scenario(NamedTuple):
    """A way to choose the forget set.

    Attributes:
      title: phrase for headings.
      request: `(seed, dataset, outputs) -> Request`; the forget set depends on the seed.
        `outputs()` returns the original model's logits `[N, C]` on the training set.
      dataset: `dataset -> dataset`, applied before the models are trained.
    """

    title: str
    request: Callable[[int, Dataset, Outputs], Request]
    dataset: Callable[[Dataset], Dataset] = lambda dataset: dataset


def coarse(dataset: Dataset) -> Dataset:
    """Return the data set with classes merged in pairs and a group column `class` of the old ones.

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


def one_subclass(seed: int, dataset: Dataset) -> Request:
    """Return the request for one of the old classes of a `coarse` data set."""
    names = np.unique(dataset.groups["class"]).tolist()
    return by_group("class", names[seed % len(names)])


def own_ids(request: Request | None) -> Scenario:
    """Return the scenario of a request of the user's, which is the same for every seed."""

    def requested(seed: int, dataset: Dataset, outputs: Outputs) -> Request:
        if request is None:
            raise InputError("forget_ids", "is missing", "give the file of ids to forget")
        return request

    return Scenario("the given examples", requested)


SCENARIOS: dict[str, Scenario] = {
    "random_10": Scenario("a random 10 %", lambda seed, data, _: by_fraction(0.1, seed=seed)),
    "random_50": Scenario("a random 50 %", lambda seed, data, _: by_fraction(0.5, seed=seed)),
    "class": Scenario("one class", lambda seed, data, _: by_class(index=seed % data.num_classes)),
    "subclass": Scenario(
        "one of two classes that are trained as one",
        lambda seed, data, _: one_subclass(seed, data),
        coarse,
    ),
    "ids": own_ids(None),
}
