"""Probabilities in place of logits are noticed, at initialisation too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltu_jax.errors import collect_warnings
from ltu_jax.models.outputs import warn_of_probabilities
from tests import tiny


class Own(nn.Module):
    """A linear model with an output function."""

    function: str

    @nn.compact
    def __call__(self, inputs):
        return getattr(jax.nn, self.function)(nn.Dense(3)(inputs))


class OwnNNX(nnx.Module):
    """The same with a softmax in bfloat16."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, inputs):
        return jax.nn.softmax(self.dense(inputs).astype(jnp.bfloat16))


def found(model, **options):
    return [text for text in tiny.plan(model=model, **options).warnings if "logits" in text]


@pytest.mark.parametrize("model", [Own("softmax"), OwnNNX])
def test_a_softmax_shows_before_training(model):
    assert len(found(model)) == 1


@pytest.mark.parametrize("function", ["log_softmax", "relu", "tanh", "sigmoid", "identity"])
def test_other_outputs_of_an_untrained_model_are_not_warned_of(function):
    assert found(Own(function)) == []


@pytest.mark.parametrize(("function", "count"), [("softmax", 1), ("sigmoid", 1), ("identity", 0)])
def test_a_trained_model_shows_a_sigmoid_too(function, count):
    data = tiny.table()
    targets = 4 * np.eye(3, dtype=np.float32)[data.train.labels] - 2
    kernel = np.linalg.lstsq((data.train.inputs - 0.5) / 0.25, targets)[0]
    dense = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(3)}
    assert len(found(Own(function), params={"Dense_0": dense})) == count


def test_rows_that_sum_to_one_by_chance_or_not_at_all_are_logits():
    for outputs in (np.array([[2.0, -1.0]]), np.zeros((4, 3)), np.array([[0.2, 0.8], [0.5, 0.6]])):
        with collect_warnings() as warnings:
            warn_of_probabilities(outputs, is_trained=False)
        assert warnings == []
