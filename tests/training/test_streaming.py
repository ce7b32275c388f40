"""Training from disk equals training from memory bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.data.on_disk import OnDisk
from ltu_jax.errors import DivergedError
from ltu_jax.models import from_functions
from ltu_jax.training.resume import Saver
from ltu_jax.training.streaming import batches
from ltu_jax.training.supervised import Recipe, epoch_rows, train
from ltu_jax.types import Examples

KEY = jax.random.key(0)
SIZE, CLASSES = 50, 3


def init(key, inputs):
    return {"kernel": 0.1 * jax.random.normal(key, (inputs[0].size, CLASSES))}


LINEAR = from_functions(
    init, lambda p, x: x.reshape(len(x), -1) / 255.0 @ p["kernel"], name="linear"
)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (SIZE, 4, 4, 1), np.uint8)


@pytest.fixture
def on_disk(images):
    """The images as if on disk, and how often each row was read."""
    reads = np.zeros(SIZE, int)

    def source(rows):
        reads[rows] += 1
        return [images[row].tobytes() for row in rows]

    def decode(data):
        return np.frombuffer(data, np.uint8).reshape(4, 4, 1)

    labels = np.arange(SIZE, dtype=np.int32) % CLASSES
    inputs = OnDisk(source, decode, np.arange(SIZE), np.zeros((SIZE, 32), np.uint8), (4, 4, 1))
    return Examples(inputs, labels), reads


def in_memory(images):
    return Examples(jnp.asarray(images), jnp.arange(SIZE, dtype=jnp.int32) % CLASSES)


def rows_of(step):
    return np.asarray(epoch_rows(KEY, step, SIZE, 16))


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("first", [0, 5])
def test_batches_equal_those_in_memory_for_any_number_of_threads(images, on_disk, threads, first):
    examples, _ = on_disk
    feed = batches(examples, 16, rows_of, num_steps=9, threads=threads)
    found = list(feed(first))
    assert len(found) == 9 - first
    for t, batch in enumerate(found, start=first):
        rows, wanted = rows_of(t), in_memory(images)
        np.testing.assert_array_equal(batch.inputs, wanted.inputs[rows])
        np.testing.assert_array_equal(batch.labels, wanted.labels[rows])
        assert isinstance(batch.inputs, jax.Array)


def test_models_equal_those_trained_in_memory(images, on_disk):
    recipe = Recipe(epochs=3, batch_size=16)
    streamed, history = train(LINEAR, on_disk[0], recipe, key=KEY)
    wanted, wanted_history = train(LINEAR, in_memory(images), recipe, key=KEY)
    np.testing.assert_array_equal(streamed.params["kernel"], wanted.params["kernel"])
    np.testing.assert_array_equal(history["loss"], wanted_history["loss"])


def test_an_epoch_reads_every_image_once_and_no_step_rereads(on_disk):
    examples, reads = on_disk
    train(LINEAR, examples, Recipe(epochs=2, batch_size=25), key=KEY)
    reads[0] -= 1  # any example, for its shape
    assert (reads == 2).all()


class Stopped(Exception):
    pass


def test_a_resumed_training_gives_the_same_bits(tmp_path, images, on_disk):
    recipe = Recipe(epochs=4, batch_size=16)

    def stop(step, info):
        if step == 7:
            raise Stopped

    with pytest.raises(Stopped), Saver(tmp_path, "one run", every=2) as saver:
        train(LINEAR, on_disk[0], recipe, key=KEY, saver=saver, on_info=stop)
    with Saver(tmp_path, "one run", every=2) as saver:
        resumed, _ = train(LINEAR, on_disk[0], recipe, key=KEY, saver=saver)
    wanted, _ = train(LINEAR, in_memory(images), recipe, key=KEY)
    np.testing.assert_array_equal(resumed.params["kernel"], wanted.params["kernel"])


def test_errors_of_reading_threads_are_raised(on_disk):
    examples, _ = on_disk

    def broken(rows):
        raise OSError("the disk is gone")

    inputs = OnDisk(broken, None, np.arange(SIZE), examples.inputs.digests, (4, 4, 1))
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(examples._replace(inputs=inputs), 16, rows_of, num_steps=3)(0))


def test_a_diverging_run_stops_with_batches_still_to_come(on_disk):
    with pytest.raises(DivergedError):
        train(LINEAR, on_disk[0], Recipe(epochs=50, batch_size=16, learning_rate=1e30), key=KEY)
