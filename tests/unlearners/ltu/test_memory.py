"""Steps with less memory give the same numbers, and need less memory."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training import loop
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import (
    InnerStep,
    LTUConfig,
    MembershipSpec,
    Memory,
    Objective,
    ltu,
    meta_gradient,
)
from ltu_jax.unlearners.ltu.memory import rematerialized

DEPTH, WIDTH = 6, 64
CONFIG = LTUConfig(
    steps=3,
    support_size=90,
    audit_size=90,
    query_sampling=("uniform",),
    query_size=600,
    objective=Objective(specs=(MembershipSpec("log_odds"), MembershipSpec("hinge")), support=1),
)


def init(key, inputs):
    keys = jax.random.split(key, DEPTH)
    widths = [inputs.shape[-1], *[WIDTH] * (DEPTH - 1), 3]
    shapes = pairwise(widths)
    return [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]


def forward(params, inputs):
    for weights in params[:-1]:
        inputs = jnp.tanh(inputs @ weights)
    return inputs @ params[-1]


MODEL = from_functions(init, forward, name="deep")


def examples(size):
    labels = np.arange(size) % 3
    inputs = np.random.default_rng(size).normal(size=(size, 6)) + labels[:, None]
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))


@pytest.fixture(scope="module")
def plain():
    return outcome()


def outcome(**options):
    """The flat parameters after three steps, and the peak memory of one of them."""
    data = UnlearnData(examples(90), examples(700), examples(60))
    method = ltu(MODEL, spec_of(data, 3), replace(CONFIG, memory=Memory(**options)))
    start = MODEL.init(jax.random.key(0), data.retain.inputs[:1])
    result, _ = loop.unlearn(method, start, data, key=jax.random.key(1))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(result.params)])
    return flat, loop.step_cost(method, start, data).peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "share"), [({"remat": True}, 1.0), ({"micro_batches": 7}, 0.75)]
)
def test_less_memory_and_the_same_numbers(plain, options, share):
    """7 divides neither 90 nor 600."""
    got, peak = outcome(**options)
    assert np.abs(got - plain[0]).max() < 1e-6 * np.abs(plain[0]).max()
    assert peak < share * plain[1]


@pytest.mark.parametrize("options", [(True, 1), (False, 3), (True, 100)])
def test_a_meta_gradient_of_sorted_losses_is_exact(options):
    """The loss ranks all outputs against each other: no mean over pieces would do."""
    data = examples(10)
    params = init(jax.random.key(0), data.inputs)

    def gradient(run):
        def losses(params):
            return jnp.mean((jnp.sort(run(params, data.inputs), 0) - jnp.arange(10)[:, None]) ** 2)

        inner = InnerStep(lr=0.01)
        return meta_gradient(losses, lambda p: losses(p)[None], params, inner)[0]

    with jax.enable_x64(True):
        params, data = jax.tree.map(lambda x: jnp.asarray(x, float), (params, data))
        for a, b in zip(
            gradient(forward), gradient(rematerialized(forward, Memory(*options))), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_plain_is_the_function_itself():
    assert rematerialized(forward, Memory()) is forward


def test_no_piece_is_refused():
    with pytest.raises(InputError) as error:
        Memory(micro_batches=0)
    assert error.value.argument == "micro_batches"
