"""Digits, functions of the user and TFDS sets by name, and bad names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ltu_jax.data import load
from ltu_jax.data.tiny_imagenet import TinyImagenet
from ltu_jax.errors import collect_warnings
from tests.refusals import refused


def rows_of(ids):
    return np.array(ids, dtype=int)


def test_digits_divide_scikit_learns_set():
    digits, bunch = load("digits"), load_digits()
    assert digits.train.inputs.shape == (1195, 8, 8, 1)
    assert digits.heldout.inputs.shape == (602, 8, 8, 1)
    assert digits.train.inputs.dtype == np.uint8
    assert digits.class_names == tuple("0123456789")
    assert not digits.augment
    rows = rows_of(digits.train_ids)
    np.testing.assert_array_equal(digits.train.labels, bunch.target[rows])
    np.testing.assert_array_equal(
        digits.train.inputs[..., 0], np.round(bunch.images[rows] * 255 / 16)
    )
    rest = np.delete(np.arange(1797), rows)
    np.testing.assert_array_equal(digits.heldout.labels, bunch.target[rest])
    shares = np.bincount(digits.train.labels) / np.bincount(bunch.target)
    assert np.abs(shares - 2 / 3).max() < 0.01
    for digit in range(10):  # held out: every third row of the class, beginning with its first
        of_class = np.flatnonzero(bunch.target == digit)
        np.testing.assert_array_equal(np.setdiff1d(of_class, rows), of_class[::3])


def test_train_size_draws_a_stratified_subset_by_the_seed():
    whole, one, again, other = (
        load("digits"),
        *(load("digits", train_size=300, seed=seed) for seed in (1, 1, 2)),
    )
    np.testing.assert_array_equal(one.train_ids, again.train_ids)
    assert set(one.train_ids) != set(other.train_ids)
    assert (np.diff(rows_of(one.train_ids)) > 0).all()
    at = [list(whole.train_ids).index(i) for i in one.train_ids]
    np.testing.assert_array_equal(one.train.inputs, whole.train.inputs[at])
    np.testing.assert_array_equal(one.train.labels, whole.train.labels[at])
    np.testing.assert_array_equal(one.heldout.inputs, whole.heldout.inputs)
    assert np.abs(np.bincount(one.train.labels) - np.bincount(whole.train.labels) / 4).max() < 1.01


def test_the_whole_training_set_is_a_train_size():
    np.testing.assert_array_equal(
        load("digits", train_size=1195, seed=5).train_ids, load("digits").train_ids
    )


@pytest.mark.parametrize("train_size", [-1, 0, 19, 1196])
def test_bad_train_size(train_size):
    with refused("train_size", str(train_size), "20", "1195"):
        load("digits", train_size=train_size)


def test_bad_seed():
    with refused("seed", "-1"):
        load("digits", seed=-1)


USER_MODULE = """
import numpy as np
from ltu_jax.data import from_arrays

x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2
def as_tuple(): return x, y, x[:4], y[:4]
def as_mapping(): return dict(train_x=x, train_y=y, test_x=x[:4], test_y=y[:4])
def as_dataset():
    made = from_arrays((x, y), (x, y), name="made", groups={"row": np.arange(20)})
    return made._replace(train=(x.astype(np.float64), y))
def broken(): return from_arrays((x, y), (x, y))._replace(train_ids=["a"] * 20)
def triple(): return x, y, x
def misnamed(): return {"images": x, "labels": y}
def nothing(): return None
constant = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "user_data.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield
    sys.modules.pop("user_data", None)


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize("function", ["as_tuple", "as_mapping"])
def test_a_function_of_arrays(function):
    dataset = load(f"user_data:{function}", train_size=10)
    assert dataset.name == f"user_data:{function}"
    assert dataset.train.inputs.shape == (10, 2)
    assert dataset.heldout.labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(dataset.train.inputs[:, 0], 2 * rows_of(dataset.train_ids))


@pytest.mark.usefixtures("user_module")
def test_a_function_of_a_dataset_is_validated_and_its_groups_follow_the_rows():
    dataset = load("user_data:as_dataset", train_size=10)
    assert dataset.name == "made"
    assert dataset.train.inputs.dtype == np.float32
    np.testing.assert_array_equal(dataset.groups["row"], rows_of(dataset.train_ids))
    with refused("data", "user_data:broken", "ids", "'a'"):
        load("user_data:broken")


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_such_module:f", "no_such_module"),
        ("user_data:absent", "'absent'"),
        ("user_data:constant", "'constant'"),
        ("user_data:triple", "tuple"),
        ("user_data:misnamed", "['images', 'labels']"),
        ("user_data:nothing", "NoneType"),
    ],
)
def test_functions_that_return_no_data(name, value):
    with refused("data", value):
        load(name)


def test_a_tfds_set_with_groups_and_without_ids(toy_dir):
    data_dir = toy_dir(heldout="validation")
    dataset = load("toy_images", data_dir=data_dir)
    values = dataset.train.inputs[:, 0, 0, 0].astype(int)  # TFDS shuffles; a pixel holds the row.
    assert dataset.train.inputs.shape == (12, 8, 8, 3)
    assert dataset.heldout.inputs.shape == (4, 8, 8, 3)
    assert sorted(values) == list(range(12))
    assert dataset.train_ids.tolist() == [str(i) for i in range(12)]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.augment
    np.testing.assert_array_equal(dataset.train.labels, values % 2)
    assert set(dataset.groups) == {"coarse_label", "sensor", "site"}
    np.testing.assert_array_equal(
        dataset.groups["coarse_label"], np.array(["red", "blue"])[values // 2 % 2]
    )
    np.testing.assert_array_equal(dataset.groups["sensor"], values)
    assert dataset.groups["site"].tolist() == [f"site {value % 3}" for value in values]

    part = load("toy_images", data_dir=data_dir, train_size=6)
    rows = rows_of(part.train_ids)
    np.testing.assert_array_equal(part.train.inputs, dataset.train.inputs[rows])
    np.testing.assert_array_equal(part.groups["sensor"], dataset.groups["sensor"][rows])


def test_grayscale_images_are_not_augmented(toy_dir):
    dataset = load("toy_images", data_dir=toy_dir(channels=1))
    assert dataset.train.inputs.shape == (12, 8, 8, 1)
    assert not dataset.augment


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"with_label": False}, "coarse_label, image"),
        ({"sides": (8, 9)}, "(9, 9, 3)"),
        ({"heldout": "extra"}, "extra"),
        ({"stated_format": "tfrecord"}, "tfrecord"),
    ],
)
def test_unsuitable_tfds_sets(toy_dir, arguments, value):
    with refused("data", "toy_images", value):
        load("toy_images", data_dir=toy_dir(**arguments))


@pytest.mark.parametrize("stream", [False, True])
def test_a_split_with_hidden_labels_is_passed_over(toy_dir, stream):
    folder = toy_dir(heldout="test validation", hidden=("test",))
    with collect_warnings() as warnings:
        dataset = load("toy_images", data_dir=folder, stream=stream)
    assert len(dataset.heldout.labels) == 3
    assert len(warnings) == 1
    assert "'test'" in warnings[0]


@pytest.mark.parametrize(
    ("heldout", "hidden"),
    [
        ("test", ("test",)),
        ("validation", ("validation",)),
        ("test validation", ("test", "validation")),
        ("test", ("train",)),
    ],
)
def test_a_set_without_public_labels_is_refused(toy_dir, heldout, hidden):
    with refused("data", *map(repr, hidden)):
        load("toy_images", data_dir=toy_dir(heldout=heldout, hidden=hidden))


def test_unknown_name_missing_folder_and_missing_data(tmp_path, monkeypatch):
    with refused("data", "nosuch"):
        load("nosuch", data_dir=str(tmp_path))
    with refused("data_dir", "absent"):
        load("cifar10", data_dir=str(tmp_path / "absent"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused("data", "mnist", "`data_dir`"):
        load("mnist", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_failed_download_is_an_input_error(tmp_path, monkeypatch):
    def offline(self, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(TinyImagenet, "download_and_prepare", offline)
    with refused("data_dir", "no route to host"):
        load("tiny_imagenet", data_dir=str(tmp_path))


def test_cifar10_is_read_without_tensorflow(cifar10_dir):
    code = (
        "import sys; from ltu_jax.data import load\n"
        f"a = load('cifar10', data_dir={cifar10_dir!r}, train_size=40)\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(a.train.inputs.shape, a.train.inputs.dtype, a.heldout.inputs.shape, a.augment)\n"
        "print(*sorted(a.train.labels))\n"
        "print(all(a.class_names[k] in i for k, i in zip(a.train.labels, a.train_ids)))\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    facts, labels, named = run.stdout.strip().splitlines()
    assert facts == "(40, 32, 32, 3) uint8 (20, 32, 32, 3) True"
    assert labels.split() == [str(label) for label in range(10) for _ in range(4)]
    # The ids hold the class's name ("train_cat_2970").
    assert named == "True"
