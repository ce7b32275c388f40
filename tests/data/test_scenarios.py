"""Scenarios select the right forget sets."""

import numpy as np

from ltu_jax.data.request import resolve
from ltu_jax.data.scenarios import SCENARIOS, coarse
from tests import tiny


def forgotten(scenario, seed):
    dataset = SCENARIOS[scenario].dataset(tiny.table())
    return dataset, resolve(SCENARIOS[scenario].request(seed, dataset, None), dataset)


def test_pairs_of_classes_are_merged():
    fine, merged = tiny.table(), coarse(tiny.table())
    assert merged.class_names == ("healthy or ill", "recovered")
    np.testing.assert_array_equal(merged.train.labels, fine.train.labels // 2)
    np.testing.assert_array_equal(merged.heldout.labels, fine.heldout.labels // 2)
    names = np.array(fine.class_names)[fine.train.labels]
    np.testing.assert_array_equal(merged.groups["class"], names)
    assert "site" in merged.groups
    assert merged.name != fine.name


def test_shares_of_the_training_set():
    for scenario, size in (("random_10", 12), ("random_50", 60)):
        first, other = (forgotten(scenario, seed)[1] for seed in (0, 1))
        assert len(first) == len(other) == size
        assert not np.array_equal(first, other)


def test_seeds_cycle_through_the_classes():
    for seed in range(4):
        dataset, rows = forgotten("class", seed)
        np.testing.assert_array_equal(rows, np.flatnonzero(dataset.train.labels == seed % 3))
    seen = []
    for seed in range(3):
        dataset, rows = forgotten("subclass", seed)
        (name,) = set(dataset.groups["class"][rows])
        assert len(rows) == (dataset.groups["class"] == name).sum()
        seen.append(name)
    assert sorted(seen) == ["healthy", "ill", "recovered"]
