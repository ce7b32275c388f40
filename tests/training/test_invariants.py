"""Broken invariants stop a run with an error that names them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import DivergedError, InvariantError
from ltu_jax.training.invariants import check_finite, check_reinitialised
from ltu_jax.training.loop import step_cost, unlearn
from ltu_jax.types import Examples, Invariants, UnlearnData, Unlearner, Variables

ORIGINAL = Variables({"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3)}, {"mean": 1.0})
DATA = UnlearnData(*[Examples(jnp.ones((4, 2)), jnp.zeros(4, int))] * 3)


def method(change, invariants, num_steps=1):
    """A method that adds `change` to the variables in every step."""
    return Unlearner(
        prepare=lambda key, variables, data: variables,
        sample=lambda key, t, state, data: (),
        step=lambda key, state, batch: (jax.tree.map(jnp.add, state, change), {}),
        finish=lambda state: state,
        num_steps=num_steps,
        invariants=invariants,
    )


def change(kernel=0.0, bias=0.0, mean=0.0):
    kernel = jnp.broadcast_to(jnp.asarray(kernel), (2, 3))
    return Variables({"kernel": kernel, "bias": jnp.full(3, bias)}, {"mean": mean})


def run(change, **invariants):
    return unlearn(method(change, Invariants(**invariants)), ORIGINAL, DATA, key=jax.random.key(0))[
        0
    ]


def trainable_mask(state):
    return {"kernel": jnp.array([[True, False, True], [True, True, True]]), "bias": False}


def test_no_parameter_changed():
    with pytest.raises(InvariantError, match="no parameter changed"):
        run(change(mean=1.0))
    run(change(), changes=False)
    with pytest.raises(InvariantError, match="must not change"):
        run(change(bias=1.0), changes=False)


def test_frozen_weights_changed():
    kernel = np.zeros((2, 3))
    kernel[0, 0] = 1.0
    run(change(kernel), trainable_mask=trainable_mask)
    kernel[0, 1] = 1e-6
    with pytest.raises(InvariantError, match=r"1 frozen weights of parameter \['kernel'\]"):
        run(change(kernel), trainable_mask=trainable_mask)
    with pytest.raises(InvariantError, match=r"3 frozen weights of parameter \['bias'\]"):
        run(change(1.0 - (kernel == 1e-6), bias=1e-6), trainable_mask=trainable_mask)


def test_model_state_changed():
    run(change(bias=1.0), preserves_model_state=True)
    run(change(bias=1.0, mean=1.0))
    with pytest.raises(InvariantError, match=r"model state \['mean'\] changed"):
        run(change(bias=1.0, mean=1.0), preserves_model_state=True)


def test_a_model_that_is_not_reinitialised():
    new = {"kernel": ORIGINAL.params["kernel"] + 1, "bias": jnp.ones(3)}
    check_reinitialised(new, ORIGINAL.params)
    with pytest.raises(InvariantError, match=r"\['kernel'\] equals the original's"):
        check_reinitialised({**new, "kernel": ORIGINAL.params["kernel"]}, ORIGINAL.params)
    with pytest.raises(InvariantError, match="before the first step"):
        run(change(bias=1.0), reinitialised=True)


def test_a_parameter_that_is_not_finite():
    with pytest.raises(DivergedError, match="is not finite"):
        run(change(bias=jnp.inf))
    with pytest.raises(DivergedError, match="mean"):
        run(change(bias=1.0, mean=jnp.inf))


@pytest.mark.parametrize(
    ("value", "diverged"), [(jnp.inf, False), (-jnp.inf, False), (jnp.nan, True)]
)
def test_model_state_that_was_infinite_may_stay_so(value, diverged):
    start = Variables({"kernel": jnp.ones(2)}, {"least": jnp.array([jnp.inf, 3.0])})
    result = start._replace(state={"least": jnp.array([value, 3.0])})
    if not diverged:
        check_finite(result, start)
        return
    with pytest.raises(DivergedError, match="least"):
        check_finite(result, start)


def test_the_cost_of_a_step_is_that_of_its_program():
    size = 64

    def product(key, state, batch):
        return state._replace(
            params={"kernel": state.params["kernel"] @ state.params["kernel"]}
        ), {}

    big = Variables({"kernel": jnp.ones((size, size))}, {})
    costly = method(None, Invariants())._replace(step=product)
    cost = step_cost(costly, big, DATA)
    assert 2 * size**3 <= cost.flops < 3 * size**3
    assert cost.peak_bytes >= 2 * 4 * size**2
    assert step_cost(costly._replace(num_steps=0), big, DATA) == (0, 0.0)


def restarted(key, variables, data):
    """New weights, except for a table and zeros that are the same every time."""
    new = {"kernel": jax.random.normal(key, (2, 3)), "bias": jnp.zeros(3), "table": jnp.arange(4.0)}
    return Variables(new, {})


def test_tables_and_zeros_that_no_gradient_changes_may_equal_the_original():
    original = restarted(jax.random.key(7), None, None)
    whole = method(jax.tree.map(jnp.ones_like, original), Invariants(reinitialised=True))
    unlearn(whole._replace(prepare=restarted), original, DATA, key=jax.random.key(0))

    def keeps_the_table(key, variables, data):
        new = restarted(key, variables, data)
        return new._replace(params={**new.params, "table": variables.params["table"]})

    with pytest.raises(InvariantError, match="table"):
        unlearn(whole._replace(prepare=keeps_the_table), original, DATA, key=jax.random.key(0))
