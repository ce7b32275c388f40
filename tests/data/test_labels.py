"""Labels in the forms that users have, and those that are refused."""

import numpy as np
import pytest

from ltu_jax.data import from_arrays
from ltu_jax.data.labels import warn_of_empty_classes
from ltu_jax.errors import collect_warnings
from tests.refusals import refused

CLASSES = np.array([2, 0, 1, 1, 0, 2, 2, 0])
INPUTS = np.zeros((8, 3), np.float32)


def made(train, heldout=None, **options):
    """The data set with these labels, and what was warned of."""
    heldout = train if heldout is None else heldout
    with collect_warnings() as warnings:
        data = from_arrays(
            (INPUTS[: len(train)], train), (INPUTS[: len(heldout)], heldout), **options
        )
    return data, warnings


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES[:, None],
        CLASSES.astype(">i2")[:, None].tolist(),
        np.eye(3)[CLASSES],
        np.eye(3, dtype=bool)[CLASSES],
        np.eye(3, dtype=np.uint8)[CLASSES].tolist(),
        CLASSES.astype(np.float32),
        CLASSES.astype(object),
        [int(label) for label in CLASSES],
    ],
)
def test_every_shape_and_type_of_numbers_gives_the_same_classes(labels):
    data, warnings = made(labels)
    np.testing.assert_array_equal(data.train.labels, CLASSES)
    assert data.class_names == ("0", "1", "2")
    assert bool(warnings) == (np.ndim(labels) == 2)


def test_one_hot_rows_of_two_sets_need_not_agree_with_integers():
    data, _ = made(np.eye(5)[CLASSES], CLASSES)
    assert data.num_classes == 5
    np.testing.assert_array_equal(data.heldout.labels, CLASSES)


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        ([b"no", b"yes", b"no"], ("no", "yes"), [0, 1, 0]),
        (np.array(["10", "9", "2"], object), ("2", "9", "10"), [2, 1, 0]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([700, 20, 700], ("20", "700"), [1, 0, 1]),
        (np.array([5, 7, 5], np.uint64), ("5", "7"), [0, 1, 0]),
    ],
)
def test_names_and_codes_are_numbered_in_their_order(labels, names, classes):
    data, _ = made(labels)
    assert data.class_names == names
    assert data.train.labels.tolist() == classes


def test_names_are_looked_up_in_the_given_ones():
    data, warnings = made(["b", " a", "Zoe\u0308"], class_names=["Zo\u00eb", "a", "b", "c"])
    assert data.train.labels.tolist() == [2, 1, 0]
    assert [text.split(":")[0] for text in warnings] == ["train", "heldout"]
    assert made([30, 10, 30], class_names=["10", "20", "30"])[0].train.labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("labels", "names", "argument"),
    [
        (["a", "d"], ["a", "b"], "train"),
        (["a", None, "b"], None, "train"),
        (np.array(["a", 1, "b"], object), None, "train"),
        ([0, np.nan, 1], None, "train"),
        ([0.5, 1, 2], None, "train"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), None, "train"),
        (np.full((3, 2), 0.5), None, "train"),
        (np.ones((3, 2)), None, "train"),
        (np.zeros((3, 2, 2)), None, "train"),
        (CLASSES[None], None, "train"),
        ([-1, 1, -1], None, "train"),
        ([0, 5, 1], ["a", "b"], "train"),
        (7, None, "train"),
        ([], None, "train"),
    ],
)
def test_labels_of_no_single_class_are_refused(labels, names, argument):
    with refused(argument):
        inputs = INPUTS[: max(np.size(labels) if np.ndim(labels) < 2 else len(labels), 1)]
        from_arrays((inputs, labels), (inputs, labels), class_names=names)


def test_names_in_one_part_and_numbers_in_the_other_are_refused():
    with refused("heldout"):
        made(["a", "b"], [0, 1])


def test_numbers_that_hardly_repeat_are_not_codes():
    with refused("train", "1000000000"):
        made([3, 10**9, 77], [5, 6, 999])


def test_indices_that_are_names_of_other_classes_are_said_to_be_indices():
    data, warnings = made([0, 1, 2], class_names=["2", "1", "0"])
    assert data.train.labels.tolist() == [0, 1, 2]
    assert len(warnings) == 1


@pytest.mark.parametrize(("classes", "count"), [([1, 2, 3], 1), ([0, 4, 4], 3), ([0, 1, 2], 0)])
def test_classes_without_examples_are_warned_of(classes, count):
    with collect_warnings() as warnings:
        warn_of_empty_classes(np.array(classes), [str(i) for i in range(max(classes) + 1)])
    assert len(warnings) == (count > 0)
    assert not warnings or warnings[0].startswith(f"{count} class")
