"""Splits after earlier deletions never contain an example that was forgotten."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

import ltu_jax.data.request as requests
from ltu_jax.data.history import (
    DeletionHistory,
    extend,
    load_history,
    save_history,
    split_remaining,
)
from tests import tiny
from tests.refusals import refused

TABLE = tiny.table()


@given(
    shares=st.lists(st.sampled_from([0.05, 0.1, 0.3]), min_size=1, max_size=4),
    seed=st.integers(0, 100),
    redraw=st.booleans(),
)
@settings(max_examples=60)
def test_no_later_set_contains_forgotten_examples(shares, seed, redraw):
    forgotten_rows, before, heldout = np.empty(0, int), None, None
    names = np.asarray(TABLE.train_ids)
    for number, share in enumerate(shares):
        request = requests.by_fraction(share, seed=seed + number)
        data, split, earlier = split_remaining(
            TABLE, request, before, retain_fraction=0.3, seed=seed
        )
        remaining = set(names) - set(names[forgotten_rows])
        assert set(data.train_ids) == remaining
        assert not set(data.train_ids[np.concatenate(split[:3])]) & set(names[forgotten_rows])
        np.testing.assert_array_equal(
            np.sort(np.concatenate([split.forget, split.retain])), np.arange(len(remaining))
        )
        assert set(split.accessible) <= set(split.retain)
        members = requests.attack_members(split, seed=seed, size=50).indices
        assert set(members) <= set(split.retain) - set(split.accessible)
        if earlier is not None:
            np.testing.assert_array_equal(earlier.inputs, TABLE.train.inputs[forgotten_rows])
        # Validation and test are the first request's: an example seen once is never test data.
        heldout = heldout or split[3:]
        for part, as_before in zip(split[3:], heldout):
            np.testing.assert_array_equal(part, as_before)
        if before is not None and not redraw:
            assert set(data.train_ids[split.accessible]) <= set(names[before.accessible])
        forgotten = np.flatnonzero(np.isin(names, data.train_ids[split.forget]))
        forgotten_rows = np.union1d(forgotten_rows, forgotten)
        before = extend(before, split, len(names), redraw=redraw)
        np.testing.assert_array_equal(before.forgotten, forgotten_rows)


def test_a_history_is_written_and_read(tmp_path):
    path = tmp_path / "history.npz"
    assert load_history(path) is None
    history = DeletionHistory(np.array([3, 5]), np.array([1, 2]))
    save_history(path, history)
    for one, other in zip(load_history(path), history, strict=True):
        np.testing.assert_array_equal(one, other)
    path.write_bytes(b"PK")
    with refused("run", str(path)):
        load_history(path)


def test_a_data_set_that_shrank_is_refused():
    shorter = tiny.table(num_train=60)
    before = DeletionHistory(np.array([3, 110]), np.array([1]))
    with refused("data", "60", "110"):
        split_remaining(
            shorter, requests.by_ids(["patient-0001"]), before, retain_fraction=0.3, seed=0
        )
