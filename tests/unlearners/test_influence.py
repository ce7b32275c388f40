"""Influence unlearning: the exact solve, what a Newton step must do; parity is in `released`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.influence import InfluenceConfig, influence, risk_shift

LINEAR = from_functions(
    lambda key, x: jax.random.normal(key, (x.shape[1], 3)), lambda w, x: x @ w, name="linear"
)


def run(method, variables, data, key=0):
    state = method.prepare(jax.random.key(key), variables, data)

    @jax.jit
    def advance(state, t, data):
        batch = method.sample(jax.random.key(0), t, state, data)
        return method.step(jax.random.key(0), state, batch)

    infos = []
    for t in range(method.num_steps):
        state, info = advance(state, t, data)
        infos.append(info)
    return state, infos


def make_data(num_forget=3, num_retain=12, seed=0, width=4):
    rng = np.random.default_rng(seed)
    return UnlearnData(
        *(
            Examples(jnp.asarray(rng.normal(size=(n, width))), jnp.asarray(rng.integers(3, size=n)))
            for n in (num_forget, num_retain, 2)
        )
    )


def gradients(examples, weights):
    def loss(weights, x, y):
        return cross_entropy(x @ weights, y)

    each = jax.vmap(jax.grad(loss), (None, 0, 0))(weights, examples.inputs, examples.labels)
    return np.asarray(each).reshape(len(examples.labels), -1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("damping", [1e-1, 1e-4])
def test_solves_the_damped_system_exactly(damping):
    data = make_data()
    variables = LINEAR.init(jax.random.key(0), data.forget.inputs)
    method = influence(LINEAR, spec_of(data, 3), InfluenceConfig(alpha=2.0, damping=damping))
    state, infos = run(method, variables, data)
    forget, retain = (gradients(part, variables.params) for part in (data.forget, data.retain))
    shift = (forget.sum(0) - 3 / 12 * retain.sum(0)) / 15
    matrix = damping * np.eye(12) + retain.T @ retain / 12
    wanted = 2.0 * np.linalg.solve(matrix, shift)
    found = np.asarray(method.finish(state).params - variables.params).ravel()
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7 * np.abs(wanted).max())
    assert infos[-1]["residual"] < 1e-8


@pytest.mark.usefixtures("x64")
def test_fewer_samples_give_the_fisher_information_of_the_sample():
    data = make_data()
    variables = LINEAR.init(jax.random.key(0), data.forget.inputs)
    method = influence(LINEAR, spec_of(data, 3), InfluenceConfig(num_samples=5, damping=1e-3))
    state, _ = run(method, variables, data)
    batch = method.sample(jax.random.key(0), jnp.asarray(0), state, data)
    assert len(np.unique(np.asarray(batch.inputs), axis=0)) == 5
    g = gradients(batch, variables.params)
    shift = np.asarray(risk_shift(LINEAR, variables, data, 2)).ravel()
    wanted = np.linalg.solve(1e-3 * np.eye(12) + g.T @ g / 5, shift)
    np.testing.assert_allclose(np.asarray(state.change).ravel(), wanted, rtol=1e-7, atol=1e-7)


def test_raises_the_loss_on_the_forget_set_and_goes_on_after_convergence():
    data = make_data(num_forget=1)
    data = jax.tree.map(lambda x: x.astype(jnp.float32) if x.ndim > 1 else x, data)
    variables = LINEAR.init(jax.random.key(0), data.forget.inputs)
    config = InfluenceConfig(alpha=0.1, damping=10.0)  # converges long before the last iteration
    unlearned, history = unlearn(
        influence(LINEAR, spec_of(data, 3), config), variables, data, key=jax.random.key(0)
    )
    assert history["residual"][-1] < 1e-6

    def loss(weights):
        logits = data.forget.inputs @ weights
        return float(cross_entropy(logits, data.forget.labels).mean())

    assert loss(unlearned.params) > loss(variables.params)
