"""What the methods share: walks that miss nobody, and steps that keep to the mask."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.errors import InputError
from ltu_jax.types import Examples, Variables
from ltu_jax.unlearners.sampling import (
    SGDConfig,
    batches_per_pass,
    concatenate,
    descend,
    take_joint,
    torch_sgd,
    walk,
)


@given(
    num_examples=st.integers(1, 12), batch_size=st.integers(1, 30), seed=st.integers(0, 2**31 - 1)
)
@settings(max_examples=40, deadline=None)
def test_every_example_comes_once_before_any_comes_again(num_examples, batch_size, seed):
    key = jax.random.key(seed)
    count = 2 * batches_per_pass(num_examples, batch_size) + 1
    batches = jax.vmap(lambda i: walk(key, i, num_examples, batch_size))
    rows = jax.jit(batches)(jnp.arange(count))
    assert rows.shape == (count, batch_size)
    stream = np.ravel(rows)
    for start in range(0, len(stream) - num_examples + 1, num_examples):
        assert sorted(stream[start : start + num_examples]) == list(range(num_examples))


def test_passes_differ_and_follow_from_the_key():
    first, second = (walk(jax.random.key(0), jnp.asarray(i), 50, 50) for i in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, walk(jax.random.key(0), jnp.asarray(0), 50, 50))
    assert not np.array_equal(first, walk(jax.random.key(1), jnp.asarray(0), 50, 50))


def test_rows_of_two_sets_are_those_of_the_two_laid_together():
    one = Examples(jnp.arange(6.0).reshape(3, 2), jnp.arange(3))
    other = Examples(-jnp.arange(10.0).reshape(5, 2), -jnp.arange(5))
    rows = jnp.array([0, 7, 2, 3, 3, 5])
    whole = concatenate(one, other)
    for part, wanted in zip(take_joint(one, other, rows), whole):
        np.testing.assert_array_equal(part, wanted[rows])


def loss_fn(params):
    return jnp.sum(params["w"] ** 2), {"count": 1}


def test_momentum_and_decay_move_no_frozen_weight():
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


def test_sgd_is_torchs():
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


def test_schedules():
    def last_rate(schedule):
        tx = SGDConfig(schedule=schedule, momentum=0.0, weight_decay=0.0).optimizer(10)
        state, params = tx.init(jnp.ones(1)), jnp.ones(1)
        for _ in range(10):
            updates, state = tx.update(jnp.ones(1), state, params)
        return -float(updates[0])

    assert last_rate("constant") == pytest.approx(0.01)
    assert last_rate("cosine") == pytest.approx(0.01 * 0.5 * (1 + np.cos(0.9 * np.pi)), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; give a number above 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"momentum": 1.0}, r"momentum is 1\.0"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1"),
        ({"schedule": "steps"}, "schedule is steps; give constant or cosine"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SGDConfig(**options)
