"""Training sets that stay on disk have the rows of those in memory."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.data import load
from ltu_jax.data.on_disk import OnDisk, content
from tests.data.conftest import ToyImages
from tests.refusals import refused


@pytest.fixture
def both(toy_dir):
    """The toy set in memory and on disk."""
    folder = toy_dir()
    return [load("toy_images", data_dir=folder, stream=stream) for stream in (False, True)]


def test_rows_are_those_in_memory(both):
    array, images = (one.train.inputs for one in both)
    assert isinstance(images, OnDisk)
    assert (len(images), images.shape, images.dtype) == (len(array), array.shape, array.dtype)
    for rows in (slice(0, 1), slice(3, 9), np.array([7, 2, 2]), [11, 0], slice(0, 0)):
        np.testing.assert_array_equal(images[rows], array[rows])
    part = np.array([9, 4, 1])
    np.testing.assert_array_equal(images.take(part)[[2, 0]], array[part][[2, 0]])


def test_labels_ids_and_groups_are_those_in_memory(both):
    memory, disk = both
    np.testing.assert_array_equal(memory.train.labels, disk.train.labels)
    np.testing.assert_array_equal(memory.train_ids, disk.train_ids)
    np.testing.assert_array_equal(memory.heldout.inputs, disk.heldout.inputs)
    assert memory.groups.keys() == disk.groups.keys()
    for column, values in memory.groups.items():
        np.testing.assert_array_equal(values, disk.groups[column])
    assert memory._replace(train=0, heldout=0, train_ids=0, groups=0) == disk._replace(
        train=0, heldout=0, train_ids=0, groups=0
    )


def test_a_subset_is_that_in_memory(toy_dir):
    folder = toy_dir()
    memory, disk = (
        load("toy_images", data_dir=folder, train_size=6, seed=3, stream=stream)
        for stream in (False, True)
    )
    np.testing.assert_array_equal(memory.train_ids, disk.train_ids)
    np.testing.assert_array_equal(memory.train.inputs, disk.train.inputs[:])


def test_content_identifies_images_and_follows_the_rows(both):
    images = both[1].train.inputs
    digests = content(images)
    assert digests.shape == (12, 32)
    assert len(np.unique(digests, axis=0)) == 12
    np.testing.assert_array_equal(content(images.take(np.array([5, 0]))), digests[[5, 0]])
    array = both[0].train.inputs
    assert content(array) is array


@pytest.mark.parametrize("make", [np.asarray, np.ascontiguousarray, np.std, jnp.asarray])
def test_conversion_to_an_array_is_refused(both, make):
    with refused("stream", "12"):
        make(both[1].train.inputs)


def test_images_of_several_shapes_are_refused(tmp_path):
    ToyImages(data_dir=tmp_path, sides=(8, 6)).download_and_prepare(file_format="array_record")
    with refused("data", "(8, 8, 3)", "(6, 6, 3)"):
        load("toy_images", data_dir=str(tmp_path), stream=True)


def test_images_of_one_undeclared_shape_are_accepted(tmp_path):
    ToyImages(data_dir=tmp_path, sides=(8, 8)).download_and_prepare(file_format="array_record")
    images = load("toy_images", data_dir=str(tmp_path), stream=True).train.inputs
    assert images.shape == (12, 8, 8, 3)
    assert images[:].shape == images.shape


@pytest.mark.parametrize("name", ["digits", "tests.tiny:table"])
def test_sets_in_memory_cannot_be_streamed(name):
    with refused("stream", name):
        load(name, stream=True)
