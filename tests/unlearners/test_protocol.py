"""The contract of all methods: a pure, jittable step that is traced once and changes the model."""

from dataclasses import fields
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners import METHODS, configure
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import MembershipSpec

# Every test builds every method: the programs are compiled once and cached.

CLASSES = 3
WIDTH = 5
# Methods whose step shares its code with `ltu`, and which take long operation by operation.
COSTLY = ("ltu_calibrated", "ltu_first_order", "ltu_joint", "ltu_paper", "mi_match")
# A method takes of these what it knows.
SMALL = {
    "steps": 3,
    "epochs": 1,
    "batch_size": 8,
    "support_size": 6,
    "audit_size": 8,
    "query_size": 8,
    "query_sampling": ("uniform",),
    "objective": {"specs": [MembershipSpec("log_odds")], "support": 1},
}


def init(key, inputs):
    conv_key, head_key = jax.random.split(key)
    return {
        "conv": {"kernel": jax.random.normal(conv_key, (2, 2, 1, WIDTH))},
        "head": {"kernel": jax.random.normal(head_key, (WIDTH, CLASSES)), "bias": jnp.zeros(3)},
    }


def apply(params, inputs):
    """A convolution over images of 2 x 2 pixels, which has one place to be, and a head."""
    hidden = jnp.tanh(inputs @ params["conv"]["kernel"].reshape(4, WIDTH))
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def make_data():
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, 4)), jnp.float32),
                jnp.asarray(np.arange(size) % CLASSES, jnp.int32),
            )
            for size in (12, 30, 24)
        )
    )


TINY = from_functions(init, apply, name="tiny")
DATA = make_data()
# Trained biases are not zero.
VARIABLES = jax.tree.map(lambda x: x + 0.1, TINY.init(jax.random.key(0), DATA.forget.inputs))


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def build(name, model=TINY) -> Unlearner:
    method = METHODS[name]
    known = {field.name for field in fields(method.config)}
    config = configure(method, {k: v for k, v in SMALL.items() if k in known})
    return method.build(model, spec_of(DATA, CLASSES), config)


def leaves(tree):
    return [np.array(_plain(leaf)) for leaf in jax.tree.leaves(tree)]


def _plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other)))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in METHODS],
)
def test_step_is_pure_and_the_same_when_compiled(name):
    method = build(name)
    state = method.prepare(jax.random.key(1), VARIABLES, DATA)
    if not method.num_steps:
        return
    batch = jax.jit(method.sample)(jax.random.key(2), jnp.asarray(0), state, DATA)
    before = jax.tree.map(lambda leaf: np.array(_plain(leaf)), (state, batch))
    step = jax.jit(method.step)
    once = step(jax.random.key(3), state, batch)
    assert_same(once, step(jax.random.key(3), state, batch))

    by_hand = method.step(jax.random.key(3), state, batch)
    assert jax.tree.structure(by_hand) == jax.tree.structure(once)
    for one, other in zip(leaves(by_hand), leaves(once)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert_same((state, batch), before)

    state_after, info = once
    assert jax.tree.structure(state_after) == jax.tree.structure(state)
    assert info
    assert all(value.shape == () for value in info.values())


@cache
def run_small(name):
    """Return the unlearned variables, the history, and the number of passes traced after steps."""
    calls, traced = [], []

    def counting(variables, inputs, *, train=False, key=None):
        calls.append(train)
        return TINY.apply(variables, inputs)

    method = build(name, Model(TINY.init, counting, "counting"))
    unlearned, history = unlearn(
        method,
        VARIABLES,
        DATA,
        key=jax.random.key(4),
        on_info=lambda t, info: traced.append(len(calls)),
    )
    return unlearned, history, traced


def test_step_is_traced_once(name):
    *_, traced = run_small(name)
    assert len(traced) == build(name).num_steps
    # Info of a step arrives while the next one runs: a second trace would show from there on.
    assert len(set(traced)) <= 1


def test_run_is_finite_and_invariants_hold(name):
    unlearned, history, _ = run_small(name)  # `unlearn` checks the claims
    method = build(name)
    assert isinstance(unlearned, Variables)
    assert jax.tree.structure(unlearned) == jax.tree.structure(VARIABLES)
    assert all(np.isfinite(leaf).all() for leaf in leaves(unlearned))
    assert [x.shape for x in leaves(unlearned)] == [x.shape for x in leaves(VARIABLES)]
    assert [x.dtype for x in leaves(unlearned)] == [x.dtype for x in leaves(VARIABLES)]
    assert all(values.shape == (method.num_steps,) for values in history.values())


def test_same_key_same_result_and_validation_used_only_where_declared(name):
    method = build(name)
    data = DATA
    if not method.invariants.uses_validation:
        spoilt = Examples(jnp.full_like(DATA.validation.inputs, jnp.nan), DATA.validation.labels)
        data = DATA._replace(validation=spoilt)
    again, _ = unlearn(method, VARIABLES, data, key=jax.random.key(4))
    assert_same(again, run_small(name)[0])


def test_first_order_differs_from_second():
    second, first = (
        run_small(name)[0].params["head"]["kernel"] for name in ("ltu", "ltu_first_order")
    )
    assert float(jnp.abs(second - first).max()) > 1e-6
