"""The optimizer step that the methods share, and its options."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.errors import InputError
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Variables
from ltu_jax.unlearners.gradient_method import SGDConfig, descend


def loss_fn(params):
    return jnp.sum(params["w"] ** 2), {"count": 1}


def test_momentum_and_decay_leave_frozen_weights_unchanged():
    tx = torch_sgd(0.1, 0.9, 0.5)
    variables = Variables({"w": jnp.arange(1.0, 5.0)}, {"count": 0})
    opt_state, trainable_mask = (
        tx.init(variables.params),
        {"w": jnp.array([True, False, True, False])},
    )
    free = variables, opt_state
    for _ in range(3):
        variables, opt_state, loss = descend(
            tx, loss_fn, variables, opt_state, trainable_mask=trainable_mask
        )
        free = descend(tx, loss_fn, *free[:2])
    np.testing.assert_array_equal(variables.params["w"][1::2], jnp.array([2.0, 4.0]))
    np.testing.assert_array_equal(variables.params["w"][::2], free[0].params["w"][::2])
    assert variables.state == {"count": 1}
    assert loss.shape == ()


def test_sgd_equals_torch_sgd():
    tx, rate, momentum, decay = torch_sgd(0.1, 0.9, 0.01), 0.1, 0.9, 0.01
    params = weight = jnp.array([2.0, -3.0])
    opt_state, buffer = tx.init(params), 0.0
    for step in range(3):
        gradient = jnp.array([1.0, 2.0]) * (step + 1)
        updates, opt_state = tx.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        buffer = momentum * buffer + gradient + decay * weight
        weight = weight - rate * buffer
        np.testing.assert_allclose(params, weight, rtol=1e-6)


def test_learning_rate_schedules():
    def last_rate(schedule):
        tx = SGDConfig(schedule=schedule, momentum=0.0, weight_decay=0.0).optimizer(10)
        state, params = tx.init(jnp.ones(1)), jnp.ones(1)
        for _ in range(10):
            updates, state = tx.update(jnp.ones(1), state, params)
        return -float(updates[0])

    assert last_rate("constant") == pytest.approx(0.01)
    assert last_rate("cosine") == pytest.approx(0.01 * 0.5 * (1 + np.cos(0.9 * np.pi)), rel=1e-4)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("learning_rate", math.nan),
        ("schedule", "steps"),
    ],
)
def test_options_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError) as error:
        SGDConfig(**{argument: value})
    assert error.value.argument == argument
