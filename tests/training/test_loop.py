"""The loop: chunks, keys, donation, diagnostics and divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import DivergedError
from ltu_jax.training.loop import run
from ltu_jax.training.steps import Step

KEY = jax.random.key(0)
DATA = jnp.arange(4.0)
STEPS = 7


def walk_once(key, t, state, data):
    """A noisy pull towards the data, different at every step."""
    noise = jax.random.normal(key, data.shape)
    position = 0.9 * state["position"] + 0.1 * data + 0.01 * (t + 1) * noise
    state = {"position": position, "count": state["count"] + 1}
    return state, {"norm": jnp.linalg.norm(position), "step": t * 1.0}


def as_step(whole):
    """Return a step that draws the data and does everything else in the update."""
    return Step(
        lambda key, t, state, data: (t, data), lambda key, state, b: whole(key, b[0], state, b[1])
    )


walk = as_step(walk_once)


def start():
    return {"position": jnp.ones(4), "count": jnp.asarray(0)}


def test_results_do_not_depend_on_steps_per_call():
    wanted, norms = start(), []
    for t in range(STEPS):
        wanted, info = walk_once(jax.random.fold_in(KEY, t), jnp.asarray(t), wanted, DATA)
        norms.append(info["norm"])

    for steps_per_call in (1, 3, STEPS):
        state, history = run(
            walk, start(), DATA, key=KEY, num_steps=STEPS, steps_per_call=steps_per_call
        )
        assert state["count"] == STEPS
        np.testing.assert_allclose(state["position"], wanted["position"], rtol=1e-5)
        np.testing.assert_allclose(history["norm"], norms, rtol=1e-5)
        np.testing.assert_array_equal(history["step"], np.arange(STEPS))


def test_results_depend_on_the_key_only():
    ends = [
        run(walk, start(), DATA, key=jax.random.key(seed), num_steps=STEPS)[0]["position"]
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_the_callers_arrays_survive():
    state = start()
    run(walk, state, DATA, key=KEY, num_steps=2)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((state, DATA)))
    np.testing.assert_array_equal(state["position"], np.ones(4))
    np.testing.assert_array_equal(DATA, np.arange(4.0))


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_every_step_is_reported_once_in_order(steps_per_call):
    received = []
    _, history = run(
        walk,
        start(),
        DATA,
        key=KEY,
        num_steps=STEPS,
        on_info=lambda t, info: received.append((t, info)),
        steps_per_call=steps_per_call,
    )
    assert [t for t, _ in received] == list(range(STEPS))
    assert [info["step"] for _, info in received] == list(range(STEPS))
    np.testing.assert_array_equal([info["norm"] for _, info in received], history["norm"])
    assert all(type(value) is float for _, info in received for value in info.values())


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_divergence_names_the_diagnostic_and_the_step(value, steps_per_call):
    def diverging(key, t, state, data):
        return state, {"fine": 1.0 * t, "loss": jnp.where(t == 4, float(value), 0.5)}

    received = []
    with pytest.raises(DivergedError, match=f"loss became {value} at step 4"):
        run(
            as_step(diverging),
            start(),
            DATA,
            key=KEY,
            num_steps=STEPS,
            on_info=lambda t, info: received.append(t),
            steps_per_call=steps_per_call,
        )
    assert received == [0, 1, 2, 3]


def test_no_steps_change_nothing():
    state, history = run(walk, start(), DATA, key=KEY, num_steps=0)
    np.testing.assert_array_equal(state["position"], np.ones(4))
    assert history == {}
