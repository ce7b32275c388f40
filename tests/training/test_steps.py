"""The programs of a step: the update is the same for every request, and changes what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training.loop import as_step
from ltu_jax.training.steps import Step, compiled_parts, trace_update
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners import METHODS, configure
from ltu_jax.unlearners.base import spec_of
from tests.unlearners.test_protocol import CLASSES, SMALL, TINY

KEY = jax.random.key(0)


def request_of(forget, retain):
    """Return data for a request of these sizes."""
    rng = np.random.default_rng(forget)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, 4)), jnp.float32),
                jnp.asarray(np.arange(size) % CLASSES, jnp.int32),
            )
            for size in (forget, retain, 24)
        )
    )


def program(name, data):
    """Return the text of a method's compiled update for a request."""
    known = set(METHODS[name].config.__dataclass_fields__)
    config = configure(METHODS[name], {k: v for k, v in SMALL.items() if k in known})
    method = METHODS[name].build(TINY, spec_of(data, CLASSES), config)
    state = method.prepare(KEY, TINY.init(KEY, data.retain.inputs[:1]), data)
    step, t = as_step(method), jnp.asarray(0)
    batch = step.draw(KEY, t, state, data)
    update = trace_update(step, None, KEY, t, state, batch)
    leaves = list(zip(jax.tree.leaves(state), update.changes, strict=True))
    parts = [[leaf for leaf, changes in leaves if changes is wanted] for wanted in (True, False)]
    return update.program.lower(*parts, KEY, t, batch).as_text()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ltu_calibrated", "ltu_joint")]


@pytest.mark.parametrize("name", ["ltu", "mi_match", "finetune", *SLOW])
def test_requests_of_any_size_run_the_same_update(name):
    texts = [program(name, request_of(*sizes)) for sizes in ((1, 40), (5, 32), (60, 90))]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) > 1000


def test_the_update_gets_what_changes_and_leaves_the_rest():
    def update(key, state, batch):
        del key
        return {**state, "sum": state["sum"] + batch}, {"sum": state["sum"]}

    step = Step(lambda key, t, state, data: data[t] * state["scale"], update)
    state = {"scale": jnp.asarray(2.0), "sum": jnp.asarray(0.0)}
    scale, data, take_step = state["scale"], jnp.arange(4.0), compiled_parts(step)
    seen = []
    for t in range(4):
        state, info = take_step(1, KEY, t, state, data)
        seen.append(float(info["sum"][0]))
    assert state["scale"] is scale
    assert float(state["sum"]) == 12.0
    assert seen == [0.0, 0.0, 2.0, 6.0]


def test_two_runs_of_a_step_may_have_other_shapes():
    step = Step(lambda key, t, state, data: data, lambda key, state, batch: (state + batch, {}))
    for size in (2, 5):
        state, _ = compiled_parts(step)(1, KEY, 0, jnp.zeros(size), jnp.ones(size))
        np.testing.assert_array_equal(state, np.ones(size))


def test_several_steps_at_once_are_refused():
    step = Step(lambda key, t, state, data: data, lambda key, state, batch: (state, {}))
    with pytest.raises(ValueError, match="count"):
        compiled_parts(step)(2, KEY, 0, jnp.zeros(1), jnp.zeros(1))
