"""Gradient ascent: the authors' runs, with and without a mask, and the closed form of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.gradient_ascent import GradientAscentConfig, gradient_ascent
from tests.unlearners.masks import forget_in_mask_order, mask_batch_size, stored_mask, stored_shares
from tests.unlearners.parity import Case, net

LINEAR = from_functions(None, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")


def follow(case, method, state):
    """Take the reference's steps and return the parameters before and after each."""
    step = jax.jit(method.step)
    trajectory, losses = [state.variables.params], []
    for t in range(case["n_steps"]):
        state, info = step(jax.random.key(0), state, case.batch(t))
        trajectory.append(state.variables.params)
        losses.append(info["forget_loss"])
    np.testing.assert_allclose(losses, case["steps/loss"], rtol=1e-9)
    case.assert_follows(trajectory)
    return trajectory


def build(case, config):
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    return gradient_ascent(net(), spec_of(case.data, case.meta["num_classes"]), config, tx=tx)


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("salun_ga")
    method = build(case, GradientAscentConfig())
    follow(case, method, method.prepare(jax.random.key(0), case.variables(), case.data))


@pytest.mark.usefixtures("x64")
def test_follows_the_reference_under_its_mask():
    case = Case("salun_ga_mask")
    config = GradientAscentConfig(
        share=stored_shares(case)["mask"], batch_size=mask_batch_size(case)
    )
    method = build(case, config)
    data = case.data._replace(forget=forget_in_mask_order(case))
    state = method.prepare(jax.random.key(0), case.variables(), data)
    wanted = stored_mask(case)
    assert case.flat(state.trainable_mask).sum() == case.flat(wanted).sum()
    # Which of equal weights the reference kept is arbitrary, so the steps take its own mask.
    trajectory = follow(case, method, state._replace(trainable_mask=wanted))
    frozen = ~case.flat(wanted)
    moved = case.flat(trajectory[-1]) != case.flat(trajectory[0])
    assert not moved[frozen].any()


def small(num_forget=5, seed=0):
    rng = np.random.default_rng(seed)
    sets = [
        Examples(
            jnp.asarray(rng.normal(size=(size, 4)), jnp.float32),
            jnp.asarray(rng.integers(0, 3, size), jnp.int32),
        )
        for size in (num_forget, 3, 3)
    ]
    params = {
        "kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=3), jnp.float32),
    }
    return UnlearnData(*sets), Variables(params, {})


def test_a_step_is_the_closed_form_of_a_linear_model():
    data, variables = small()
    decay, rate = 0.1, 0.5
    config = GradientAscentConfig(learning_rate=rate, weight_decay=decay)
    method = gradient_ascent(LINEAR, spec_of(data, 3), config)
    state = method.prepare(jax.random.key(0), variables, data)
    state, info = jax.jit(method.step)(jax.random.key(0), state, data.forget)
    result = state.variables
    kernel, bias = variables.params["kernel"], variables.params["bias"]
    inputs, labels = data.forget
    logits = inputs @ kernel + bias
    np.testing.assert_allclose(info["forget_loss"], cross_entropy(logits, labels).mean(), rtol=1e-5)
    errors = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)
    wanted = kernel + rate * (inputs.T @ errors / len(labels) - decay * kernel)
    np.testing.assert_allclose(result.params["kernel"], wanted, rtol=1e-5, atol=1e-6)
    wanted = bias + rate * (errors.mean(0) - decay * bias)
    np.testing.assert_allclose(result.params["bias"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_forget", [1, 20])
def test_share_of_weights_moves_and_the_others_do_not(num_forget):
    data, variables = small(num_forget)
    config = GradientAscentConfig(epochs=2, batch_size=8, learning_rate=0.1, share=0.4)
    method = gradient_ascent(LINEAR, spec_of(data, 3), config)
    result, history = unlearn(method, variables, data, key=jax.random.key(1))  # checks the claim
    moved = jax.tree.map(lambda new, old: int((new != old).sum()), result.params, variables.params)
    assert sum(jax.tree.leaves(moved)) == int(15 * 0.4)
    assert history["forget_loss"][-1] > history["forget_loss"][0]


def test_an_epoch_shows_every_forget_example_once():
    data, variables = small(8)
    method = gradient_ascent(LINEAR, spec_of(data, 3), GradientAscentConfig(epochs=2, batch_size=4))
    assert method.num_steps == 4
    state = method.prepare(jax.random.key(2), variables, data)
    sample = jax.jit(method.sample)
    for epoch in (0, 1):
        parts = [sample(jax.random.key(9), 2 * epoch + i, state, data) for i in (0, 1)]
        seen = np.concatenate([part.inputs for part in parts])
        np.testing.assert_array_equal(*(np.sort(x, axis=0) for x in (seen, data.forget.inputs)))
