"""What may be a mistake of the data is in the warnings of a plan, and only then."""

import numpy as np
import pytest

import ltu_jax
from ltu_jax.data.plausibility import warn_of_scale
from ltu_jax.errors import collect_warnings
from tests import tiny

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 8, 8, 3))


def of_scale(inputs, **options):
    labels = np.arange(len(inputs)) % 2
    data = ltu_jax.from_arrays((inputs, labels), (inputs, labels), **options)
    with collect_warnings() as warnings:
        warn_of_scale(data)
    return warnings


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (IMAGES.astype(np.float32), {}),
        (IMAGES.astype(np.float32) / 255, {"mean": (127.0,), "std": (64.0,)}),
        (IMAGES.astype(np.uint8), {"mean": (127.0,), "std": (64.0,)}),
        (IMAGES.astype(np.uint8), {"std": (0.01, 0.01, 0.01)}),
        (RNG.normal(1e6, 1, (40, 5)), {}),
        (RNG.normal(0, 1, (40, 5)) * [1, 1, 1, 1, 5e4], {"mean": (0.0,), "std": (1.0,)}),
    ],
)
def test_inputs_far_from_unit_scale_are_warned_of(inputs, options):
    assert len(of_scale(inputs, **options)) == 1


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (IMAGES.astype(np.uint8), {}),
        (IMAGES.astype(np.uint8), {"mean": (0.49, 0.48, 0.45), "std": (0.2, 0.2, 0.2)}),
        (IMAGES.astype(np.float32), {"mean": (127.0,), "std": (64.0,)}),
        (RNG.normal(0, 1, (40, 5)), {}),
        (IMAGES.reshape(40, -1), {}),  # tokens
        (np.zeros((40, 5), np.float32), {"mean": (0.0,), "std": (1.0,)}),
    ],
)
def test_usual_inputs_are_not(inputs, options):
    assert of_scale(inputs, **options) == []


def test_a_plan_has_the_warnings_and_a_usual_one_has_none():
    assert tiny.plan().warnings == ()
    data = tiny.table()
    inputs = np.array(data.train.inputs)
    inputs[1] = inputs[0]
    far = data._replace(
        train=data.train._replace(inputs=1000 * inputs, labels=data.train.labels // 2),
        heldout=data.heldout._replace(inputs=1000 * data.heldout.inputs),
    )
    assert len(tiny.plan(far, ["patient-0000"]).warnings) == 3
