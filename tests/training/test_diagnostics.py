"""Diagnostics of a method of the user, and JAX's strict settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, Invariants, UnlearnData, Unlearner, Variables

START = Variables({"w": jnp.arange(4.0)}, {})
DATA = UnlearnData(*[Examples(jnp.ones((2, 2)), jnp.zeros(2, int))] * 3)


def run(info):
    method = Unlearner(
        prepare=lambda key, variables, data: variables,
        sample=lambda key, t, state, data: (),
        step=lambda key, state, batch: (jax.tree.map(lambda x: x + 1, state), info),
        finish=lambda state: state,
        num_steps=2,
        invariants=Invariants(),
    )
    return unlearn(method, START, DATA, key=jax.random.key(0))[1]


@pytest.mark.parametrize("value", [0.5, 3, True, np.float64(2), np.array(1), jnp.ones(())])
def test_any_single_number_is_a_diagnostic(value):
    np.testing.assert_array_equal(run({"number": value})["number"], [float(value)] * 2)


@pytest.mark.parametrize("value", ["high", [1.0, 2.0], None, jnp.ones((1,)), {"a": 1}])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(InputError) as caught:
        run({"other": value})
    assert caught.value.argument == "method"
    assert "other" in caught.value.problem


def test_strict_settings_are_relaxed_inside_and_kept_outside():
    with jax.numpy_rank_promotion("raise"), jax.debug_infs(True):
        with relaxed():
            jnp.ones((2, 3)) + jnp.full(3, jnp.inf)
        with pytest.raises(ValueError, match="rank_promotion"):
            jnp.ones((2, 3)) + jnp.ones(3)
