"""Normalisation and augmentation against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models.preprocessing import normalise, pad_crop_flip


def test_normalise_divides_uint8_by_255_first():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    out = jax.jit(lambda x: normalise(x, (0.5,), (0.25,)))(images)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.ravel(out), [-2.0, -1.2, 2.0], rtol=1e-6)


def test_normalise_of_floats_and_constants_by_channel():
    inputs = np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)
    out = normalise(inputs, (1.0, 20.0), (2.0, 10.0))
    np.testing.assert_allclose(out, [[0.0, -1.0], [1.0, 1.0]])


def reference(image, pad, offset, flip):
    padded = np.pad(image, ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    height, width, _ = image.shape
    crop = padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
    return crop[:, ::-1] if flip else crop


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_augmented_images_are_shifted_or_mirrored_copies(dtype):
    # Two sides of different length, so that swapped axes or paddings would show.
    images = np.random.default_rng(0).integers(1, 255, (64, 16, 24, 3)).astype(dtype)
    out = np.asarray(jax.jit(pad_crop_flip)(jax.random.key(1), images))
    assert out.dtype == dtype
    assert out.shape == images.shape
    drawn = []
    for image, result in zip(images, out, strict=True):
        matches = [
            (row, column, flip)
            for row in range(5)
            for column in range(7)
            for flip in (False, True)
            if np.array_equal(result, reference(image, (2, 3), (row, column), flip))
        ]
        assert len(matches) == 1
        drawn += matches
    rows, columns, flips = (np.array(values) for values in zip(*drawn, strict=True))
    # 64 independent draws: every offset occurs, and 19 to 45 flips but for 1 in 1,000 keys.
    assert set(rows) == set(range(5))
    assert set(columns) == set(range(7))
    assert 19 <= flips.sum() <= 45


def test_augmentation_depends_on_the_key():
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
    step = jax.jit(pad_crop_flip)
    first, again, other = (step(jax.random.key(seed), images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
