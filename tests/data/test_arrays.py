"""Arrays become a checked `Dataset`, and training subsets are stratified."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltu_jax.data import from_arrays
from ltu_jax.data.arrays import stratified_rows
from ltu_jax.errors import collect_warnings
from tests.refusals import refused


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
    assert (dataset.mean, dataset.std, dataset.augment) == (None, None, False)


def test_tables_are_accepted():
    table = np.zeros((6, 5), np.float32)
    assert from_arrays((table, TRAIN[1]), (table, TRAIN[1])).train.inputs.shape == (6, 5)


@pytest.mark.parametrize(
    ("change", "argument", "values"),
    [
        ({"train": TRAIN[0]}, "train", []),
        ({"train": ([[1, 2], [3]], [0, 1])}, "train", []),
        ({"train": (np.zeros(6, np.float32), TRAIN[1])}, "train", ["(6,)"]),
        ({"train": (images(0), TRAIN[1][:0])}, "train", ["(0, 4, 4, 3)"]),
        ({"heldout": (images(0), HELDOUT[1][:0])}, "heldout", ["(0, 4, 4, 3)"]),
        ({"train": (images(6, dtype=np.int64), TRAIN[1])}, "heldout", ["int32", "uint8"]),
        ({"train": (images(6, dtype=bool), TRAIN[1])}, "train", ["bool"]),
        ({"train": (images(6, dtype=np.int64) - 1, TRAIN[1])}, "train", ["-1"]),
        ({"heldout": (images(3, (4, 5, 3)), HELDOUT[1])}, "heldout", ["[4, 4, 3]", "[4, 5, 3]"]),
        ({"heldout": (images(3, dtype=np.float32), HELDOUT[1])}, "heldout", ["uint8", "float32"]),
        ({"train": (with_value(np.nan), TRAIN[1])}, "train", ["NaN", "row 4"]),
        ({"train": (with_value(np.inf), TRAIN[1])}, "train", ["infinity", "row 4"]),
        ({"train": (with_value(0).astype(np.float64) + 1e300, TRAIN[1])}, "train", ["infinity"]),
        ({"train": (TRAIN[0], TRAIN[1] + 0.5)}, "train", ["float64", "0.5"]),
        ({"train": (TRAIN[0], np.tri(6, dtype=int))}, "train", ["[6, 6]", "row 1"]),
        ({"train": (TRAIN[0], TRAIN[1][:5])}, "train", ["6 inputs", "5 labels"]),
        ({"train": (TRAIN[0], TRAIN[1] - 1)}, "train", ["-1"]),
        ({"heldout": (HELDOUT[0], HELDOUT[1] - 1)}, "heldout", ["-1"]),
        ({"heldout": (HELDOUT[0], HELDOUT[1] + 1), "class_names": "abc"}, "heldout", ["3"]),
        ({"train": (TRAIN[0], TRAIN[1] + 2**40)}, "train", ["1099511627778"]),
        (
            {"train": (TRAIN[0], TRAIN[1] * 0), "heldout": (HELDOUT[0], HELDOUT[1] * 0)},
            "class_names",
            ["1 names"],
        ),
        ({"class_names": ["a", "b", "b"]}, "class_names", ["3 names", "2 of them"]),
        ({"ids": ["a", "b", "c"]}, "ids", ["3 entries", "6 training"]),
        ({"ids": ["a", None, "c", "d", "e", "f"]}, "ids", ["row 1"]),
        ({"ids": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0]}, "ids", ["row 2"]),
        ({"ids": ["a", "b", "c", "d", "", "f"]}, "ids", ["row 4"]),
        ({"ids": np.ma.masked_equal(np.arange(6), 3)}, "ids", ["masked"]),
        ({"train": (np.ma.masked_less(images(6), 9), TRAIN[1])}, "train", ["masked"]),
        ({"heldout": (HELDOUT[0], np.ma.masked_equal(HELDOUT[1], 1))}, "heldout", ["1 masked"]),
        ({"train": ((row for row in TRAIN[0]), TRAIN[1])}, "train", ["generator"]),
        ({"train": (images(6).astype(complex), TRAIN[1])}, "train", ["complex128"]),
        ({"train": (images(6).astype(str), TRAIN[1])}, "train", ["<U"]),
        ({"train": (images(6).astype(str).astype(object), TRAIN[1])}, "train", ["text"]),
        ({"ids": ["a", "b", "c", "c", "d", "e"]}, "ids", ["'c'"]),
        ({"groups": {"sex": ["m", "f"]}}, "groups", ["'sex'", "(2,)"]),
        ({"mean": (0.5, 0.5)}, "mean", ["(0.5, 0.5)", "3 channels"]),
        ({"mean": 0.5}, "mean", ["0.5"]),
        ({"std": (0.0,)}, "std", ["(0.0,)"]),
        ({"std": (np.nan,)}, "std", ["nan"]),
    ],
)
def test_bad_arrays_are_refused(change, argument, values):
    arguments = {"train": TRAIN, "heldout": HELDOUT, **change}
    with refused(argument, *values):
        from_arrays(arguments.pop("train"), arguments.pop("heldout"), name="mine", **arguments)


@pytest.mark.parametrize("dtype", [">f2", ">f8", "<f4", ">f4", "f2", "bfloat16", "object"])
def test_floats_of_every_kind_become_float32(dtype):
    values = np.random.default_rng(0).integers(0, 9, (6, 5))
    expected = from_arrays((values.astype(np.float32), TRAIN[1]), (values[:3] + 0.0, HELDOUT[1]))
    given = values.astype(np.dtype(dtype) if dtype != "bfloat16" else jnp.bfloat16)
    dataset = from_arrays((given, TRAIN[1].astype(">u2")), (given[:3], HELDOUT[1]))
    assert dataset.train.inputs.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(dataset.train.inputs, expected.train.inputs)
    np.testing.assert_array_equal(dataset.train.labels, TRAIN[1])


def test_tokens_of_another_byte_order_are_native():
    dataset = from_arrays((images(6, dtype=">i8"), TRAIN[1]), (images(3, dtype=">u2"), HELDOUT[1]))
    assert dataset.train.inputs.dtype == dataset.heldout.inputs.dtype == np.dtype("=i4")


def test_a_group_keeps_numbers_and_text_apart_and_masked_entries_empty():
    groups = {"age": [12, "12", 3, 4, 5, 6], "ward": np.ma.masked_equal([1, 2, 3, 1, 2, 3], 3)}
    columns = from_arrays(TRAIN, HELDOUT, groups=groups).groups
    assert columns["age"].tolist() == [12, "12", 3, 4, 5, 6]
    assert columns["ward"].tolist() == [1, 2, None, 1, 2, None]


class Frame:
    """What a data frame of one column shares with pandas: an array on demand, columns to walk."""

    def __init__(self, values):
        self.values = np.asarray(values, object)[:, None]

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or object)

    def __iter__(self):
        return iter(["column"])


def test_ids_and_columns_of_other_shapes_and_types():
    with collect_warnings() as warnings:
        data = from_arrays(TRAIN, HELDOUT, ids=np.arange(6.0), groups={"g": np.arange(6)[:, None]})
    assert data.train_ids.tolist() == list("012345")
    assert data.groups["g"].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(warnings) == 1
    assert from_arrays(TRAIN, HELDOUT, ids=np.arange(6) + 0.5).train_ids[0] == "0.5"


def test_frames_and_device_arrays_are_arrays():
    dataset = from_arrays(
        (jnp.asarray(TRAIN[0]), Frame(TRAIN[1])),
        (jnp.asarray(HELDOUT[0]), jnp.asarray(HELDOUT[1])),
        ids=Frame(["a", "b", "c", "d", "e", 6]),
    )
    np.testing.assert_array_equal(dataset.train.inputs, TRAIN[0])
    np.testing.assert_array_equal(dataset.train.labels, TRAIN[1])
    assert dataset.train_ids.tolist() == ["a", "b", "c", "d", "e", "6"]


def test_tables_cannot_be_augmented():
    table = (np.zeros((6, 5), np.float32), TRAIN[1])
    with refused("augment", "(6, 5)"):
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
