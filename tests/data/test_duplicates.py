"""Copies of forgotten examples are found, exact and near ones; other examples raise no alarm."""

import time

import numpy as np
import pytest

from ltu_jax.data import by_class, by_fraction, from_arrays, load, resolve, split
from ltu_jax.data.duplicates import digests, near_copies, warn_of_copies
from ltu_jax.errors import collect_warnings

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 4


def warnings_of(train, heldout, forget):
    labels = LABELS[np.arange(len(train)) % 40]
    data = from_arrays((train, labels), (heldout, LABELS[: len(heldout)]))
    with collect_warnings() as warnings:
        warn_of_copies(data, split(data, np.asarray(forget)))
    return warnings


def images(count, shape=(16, 16, 3), dtype=np.uint8):
    return RNG.integers(40, 216, (count, *shape)).astype(dtype)


def noisy(array, size):
    changed = array + RNG.normal(0, size, array.shape)
    return np.clip(np.round(changed), 0, 255).astype(array.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(5,), (9, 7), (3, 3, 1)])
def test_exact_copies_are_counted(dtype, shape):
    train, heldout = images(60, shape, dtype), images(20, shape, dtype)
    assert warnings_of(train, heldout, [0, 1, 2, 3]) == []
    train[[30, 31, 32]] = train[[0, 1, 1]]
    (twins,) = warnings_of(train, heldout, [0, 1, 2, 3])
    assert twins.startswith("2 of the 4 examples to forget have an exact copy in the data to keep")
    heldout[4] = train[50]
    assert any(t.startswith("1 of the 20 ") for t in warnings_of(train, heldout, [2, 3]))
    assert len(warnings_of(train, train[:20], [0, 1])) == 2


def test_a_copy_among_the_forgotten_is_no_copy_that_stays():
    train = images(60)
    train[1] = train[0]
    assert warnings_of(train, images(20), [0, 1, 2]) == []


def test_zeros_of_both_signs_are_equal():
    one, other = np.zeros((2, 3), np.float32), -np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(digests(one), digests(other))


CHANGES = {
    "noise": lambda x: noisy(x, 4),
    "brightness": lambda x: x + 25,
    "contrast": lambda x: (0.7 * x).astype(x.dtype),
    "the lowest bit": lambda x: x ^ 1,
}


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 24, 3), (64, 48, 1), (130, 100, 3)])
@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_of_images_are_counted_in_both_parts(shape, change):
    train, heldout = images(48, shape), images(12, shape)
    train[40:43] = CHANGES[change](train[0:3])
    heldout[5:7] = CHANGES[change](train[3:5])
    kept, held = warnings_of(train, heldout, range(6))
    assert kept.startswith("3 of the 6 ")
    assert "near copy in the data to keep" in kept
    assert held.startswith("2 of the 6 ")


def test_digits_and_random_images_raise_no_alarm():
    digits = load("digits")
    for asked in (by_fraction(0.5), by_fraction(0.1, seed=1), by_class(3), by_class(index=[1, 8])):
        with collect_warnings() as warnings:
            warn_of_copies(digits, split(digits, resolve(asked, digits)))
        assert warnings == []
    assert not near_copies(images(200, (8, 8, 1)), iter([images(3000, (8, 8, 1))])).any()


def test_flat_images_are_near_nothing():
    flat = np.full((4, 16, 16, 1), 9, np.uint8)
    assert not near_copies(flat, iter([flat + 1])).any()


@pytest.mark.slow
def test_fifty_thousand_images_take_seconds():
    labels = np.arange(50_000) % 10
    part = (RNG.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8), labels)
    data = from_arrays(part, (part[0][:5000] ^ 85, labels[:5000]))
    parts = split(data, resolve(by_fraction(0.1), data))
    start = time.perf_counter()
    with collect_warnings() as warnings:
        warn_of_copies(data, parts)
    assert time.perf_counter() - start < 20  # a second or two on a free machine
    assert warnings == []
