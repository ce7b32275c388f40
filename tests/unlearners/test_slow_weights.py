"""Slow weights: when they move, how far, and that the fast ones restart there."""

import jax
import numpy as np

from ltu_jax.unlearners.base import toy_problem
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from ltu_jax.unlearners.slow_weights import with_slow_weights

CONFIG = FineTuneConfig(epochs=2, batch_size=4, momentum=0.0)


def trajectory(method, num_steps):
    _, variables, data, _ = toy_problem()
    state, states = method.prepare(jax.random.key(0), variables, data), []

    @jax.jit
    def step(t, state):
        batch = method.sample(jax.random.key(0), t, state, data)
        return method.step(jax.random.key(0), state, batch)[0]

    for t in range(num_steps):
        states.append(state := step(t, state))
    return states


def test_slow_weights_move_part_of_the_way_and_the_fast_ones_restart_there():
    model, original, _, spec = toy_problem()
    plain = finetune(model, spec, CONFIG)
    slow = with_slow_weights(plain, 0.25, lambda t: t % 2 == 1)
    fast = trajectory(plain, 2)[1].variables.params
    first, second = trajectory(slow, 2)
    for name, start in original.params.items():
        np.testing.assert_array_equal(first.slow[name], start)
        wanted = start + (fast[name] - start) / 4
        np.testing.assert_allclose(second.slow[name], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(second.inner.variables.params[name], second.slow[name])


def test_a_rate_of_one_changes_nothing():
    model, _, _, spec = toy_problem()
    plain = finetune(model, spec, CONFIG)
    slow = with_slow_weights(plain, 1.0, lambda t: t % 2 == 0)
    one, other = trajectory(plain, 3)[-1].variables, trajectory(slow, 3)[-1].inner.variables
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
