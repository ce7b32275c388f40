"""Arrays of the user's become a checked `Dataset`, and training subsets are stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltu_jax.data import from_arrays
from ltu_jax.data.arrays import stratified_rows
from ltu_jax.errors import InputError


def images(count, shape=(4, 4, 3), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, (count, *shape)).astype(dtype)


TRAIN = (images(6), np.array([0, 1, 2, 0, 1, 2]))
HELDOUT = (images(3), np.array([2, 1, 0]))


def with_value(value, row=4):
    inputs = images(6, dtype=np.float32)
    inputs[row, 0, 0, 0] = value
    return inputs


def test_arrays_become_a_dataset():
    dataset = from_arrays(
        (images(6, dtype=np.float64), TRAIN[1].astype(np.uint8)),
        (images(3, dtype=np.float32), HELDOUT[1]),
        ids=[b"a", "b", 3, "d", "e", "f"],
        class_names=["x", "y", "z"],
        groups={"sex": list("mfmfmf")},
    )
    assert dataset.train.inputs.dtype == np.float32
    assert dataset.train.labels.dtype == dataset.heldout.labels.dtype == np.int32
    assert dataset.train_ids.tolist() == ["a", "b", "3", "d", "e", "f"]
    assert dataset.class_names == ("x", "y", "z")
    assert dataset.groups["sex"].tolist() == list("mfmfmf")
    np.testing.assert_array_equal(dataset.train.inputs, images(6).astype(np.float32))


def test_defaults_are_row_indices_and_numbered_classes():
    dataset = from_arrays(TRAIN, HELDOUT)
    assert dataset.train_ids.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert dataset.class_names == ("0", "1", "2")
    assert (dataset.mean, dataset.std, dataset.augment) == ((0.5,), (0.25,), False)


def test_tables_are_accepted():
    table = np.zeros((6, 5), np.float32)
    assert from_arrays((table, TRAIN[1]), (table, TRAIN[1])).train.inputs.shape == (6, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TRAIN[0]}, "train must be a pair of arrays"),
        ({"train": ([[1, 2], [3]], [0, 1])}, "train must be a pair of arrays"),
        ({"train": (np.zeros(6, np.float32), TRAIN[1])}, r"train inputs have shape \(6,\)"),
        ({"train": (images(0), TRAIN[1][:0])}, "train inputs have shape .* non-empty"),
        ({"heldout": (images(0), HELDOUT[1][:0])}, "heldout inputs have shape .* non-empty"),
        (
            {"train": (images(6, dtype=np.int64), TRAIN[1])},
            "train inputs are int32, heldout inputs uint8",
        ),
        ({"heldout": (images(3, (4, 5, 3)), HELDOUT[1])}, r"\(4, 4, 3\), heldout .* \(4, 5, 3\)"),
        ({"heldout": (images(3, dtype=np.float32), HELDOUT[1])}, "uint8, heldout inputs float32"),
        ({"train": (with_value(np.nan), TRAIN[1])}, "NaN or infinity, first in row 4"),
        ({"train": (with_value(np.inf), TRAIN[1])}, "NaN or infinity, first in row 4"),
        ({"train": (with_value(0).astype(np.float64) + 1e300, TRAIN[1])}, "NaN or infinity"),
        ({"train": (TRAIN[0], TRAIN[1].astype(np.float32))}, "train labels are float32"),
        (
            {"train": (TRAIN[0], np.eye(6, dtype=int))},
            r"train labels are of shape \(6, 6\); .*argmax.*multi-label",
        ),
        ({"train": (TRAIN[0], TRAIN[1][:5])}, "6 inputs but 5 labels"),
        ({"train": (TRAIN[0], TRAIN[1] - 1)}, "train labels go down to -1"),
        ({"heldout": (HELDOUT[0], HELDOUT[1] - 1)}, "heldout labels go down to -1"),
        ({"heldout": (HELDOUT[0], HELDOUT[1] + 1), "class_names": "abc"}, "labels go up to 3"),
        ({"train": (TRAIN[0], TRAIN[1] + 2**40)}, "the largest label is 1099511627778"),
        ({"train": (TRAIN[0], TRAIN[1] * 0), "heldout": (HELDOUT[0], HELDOUT[1] * 0)}, "1 names"),
        ({"class_names": ["a", "b", "b"]}, "class_names has 3 names, 2 of them distinct"),
        ({"ids": ["a", "b", "c"]}, "3 ids for 6 training examples"),
        ({"ids": ["a", "b", "c", "c", "d", "e"]}, "id 'c' occurs more than once"),
        ({"groups": {"sex": ["m", "f"]}}, r"group 'sex' has shape \(2,\)"),
        ({"mean": (0.5, 0.5)}, r"mean=\(0.5, 0.5\).* 3 channels"),
        ({"mean": 0.5}, "mean=0.5; pass"),
        ({"std": (0.0,)}, r"std=\(0.0,\); pass positive"),
        ({"std": (np.nan,)}, "std=.*finite"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(change, message):
    arguments = {"train": TRAIN, "heldout": HELDOUT, **change}
    with pytest.raises(InputError, match=message) as caught:
        from_arrays(arguments.pop("train"), arguments.pop("heldout"), name="mine", **arguments)
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)


def test_tables_cannot_be_augmented():
    table = (np.zeros((6, 5), np.float32), TRAIN[1])
    with pytest.raises(InputError, match="augment=True needs images"):
        from_arrays(table, table, augment=True)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_stratified_rows_are_distinct_sorted_and_proportional(counts, share, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    size = max(1, round(share * len(labels)))
    rows = stratified_rows(labels, size, seed)
    assert len(rows) == size
    assert (np.diff(rows) > 0).all()
    taken = np.bincount(labels[rows], minlength=len(counts))
    assert (np.abs(taken - np.array(counts) * size / len(labels)) < 1 + 1e-9).all()


def test_stratified_rows_are_equally_likely_within_a_class():
    labels = np.repeat([0, 1], [4, 8])
    hits = sum(np.bincount(stratified_rows(labels, 6, seed), minlength=12) for seed in range(600))
    # Binomial(600, 1/2): five standard deviations are 61.
    assert (np.abs(hits - 300) < 62).all()
