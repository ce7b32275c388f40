"""A method that does not do what it says is stopped, and told what it broke."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import DivergedError, InvariantError
from ltu_jax.training.invariants import check_fresh
from ltu_jax.training.loop import step_cost, unlearn
from ltu_jax.types import Claims, Examples, UnlearnData, Unlearner, Variables

ORIGINAL = Variables({"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3)}, {"mean": 1.0})
DATA = UnlearnData(*[Examples(jnp.ones((4, 2)), jnp.zeros(4, int))] * 3)


def method(change, claims, num_steps=1):
    """A method that adds `change` to the variables in every step."""
    return Unlearner(
        prepare=lambda key, variables, data: variables,
        sample=lambda key, t, state, data: (),
        step=lambda key, state, batch: (jax.tree.map(jnp.add, state, change), {}),
        finish=lambda state: state,
        num_steps=num_steps,
        claims=claims,
    )


def change(kernel=0.0, bias=0.0, mean=0.0):
    kernel = jnp.broadcast_to(jnp.asarray(kernel), (2, 3))
    return Variables({"kernel": kernel, "bias": jnp.full(3, bias)}, {"mean": mean})


def run(change, **claims):
    return unlearn(method(change, Claims(**claims)), ORIGINAL, DATA, key=jax.random.key(0))[0]


def movable(state):
    return {"kernel": jnp.array([[True, False, True], [True, True, True]]), "bias": False}


def test_nothing_changed():
    with pytest.raises(InvariantError, match="no parameter changed"):
        run(change(mean=1.0))
    run(change(), changes=False)
    with pytest.raises(InvariantError, match="claims to change nothing"):
        run(change(bias=1.0), changes=False)


def test_frozen_weights_moved():
    kernel = np.zeros((2, 3))
    kernel[0, 0] = 1.0
    run(change(kernel), movable=movable)
    kernel[0, 1] = 1e-6
    with pytest.raises(InvariantError, match=r"1 frozen weights of parameter \['kernel'\] moved"):
        run(change(kernel), movable=movable)
    with pytest.raises(InvariantError, match=r"3 frozen weights of parameter \['bias'\] moved"):
        run(change(1.0 - (kernel == 1e-6), bias=1e-6), movable=movable)


def test_model_state_moved():
    run(change(bias=1.0), keeps_state=True)
    run(change(bias=1.0, mean=1.0))
    with pytest.raises(InvariantError, match=r"model state \['mean'\] changed"):
        run(change(bias=1.0, mean=1.0), keeps_state=True)


def test_a_network_that_is_not_new():
    new = {"kernel": ORIGINAL.params["kernel"] + 1, "bias": jnp.ones(3)}
    check_fresh(new, ORIGINAL.params)
    with pytest.raises(InvariantError, match=r"\['kernel'\] is the original's"):
        check_fresh({**new, "kernel": ORIGINAL.params["kernel"]}, ORIGINAL.params)
    with pytest.raises(InvariantError, match="in a network that is new"):
        run(change(bias=1.0), fresh=True)


def test_a_parameter_that_is_not_finite():
    with pytest.raises(DivergedError, match="a parameter is not finite"):
        run(change(bias=jnp.inf))


def test_the_cost_of_a_step_is_that_of_its_program():
    size = 64

    def product(key, state, batch):
        return state._replace(
            params={"kernel": state.params["kernel"] @ state.params["kernel"]}
        ), {}

    big = Variables({"kernel": jnp.ones((size, size))}, {})
    costly = method(None, Claims())._replace(step=product)
    cost = step_cost(costly, big, DATA)
    assert 2 * size**3 <= cost.flops < 3 * size**3
    assert cost.peak_bytes >= 2 * 4 * size**2
    assert step_cost(costly._replace(num_steps=0), big, DATA) == (0, 0.0)
