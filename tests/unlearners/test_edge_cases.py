"""Forget sets at the edge of the possible, through every method, on a network with statistics."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners import METHODS, configure
from ltu_jax.unlearners.base import spec_of
from tests.unlearners.test_protocol import SMALL

CLASSES = 3
WIDTH = 5


def init(key, inputs):
    conv_key, head_key = jax.random.split(key)
    params = {
        "conv": {"kernel": jax.random.normal(conv_key, (2, 2, 1, WIDTH))},
        "norm": {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)},
        "head": {"kernel": jax.random.normal(head_key, (WIDTH, CLASSES)), "bias": jnp.zeros(3)},
    }
    return Variables(params, {"norm": {"mean": jnp.zeros(WIDTH), "var": jnp.ones(WIDTH)}})


def apply(variables, inputs, *, train=False, key=None):
    """A convolution over images of 2 x 2 pixels, which has one place to be; BatchNorm; a head."""
    del key
    (params, state), norm = variables, variables.params["norm"]
    hidden = inputs.reshape(len(inputs), 4) @ params["conv"]["kernel"].reshape(4, WIDTH)
    now = {"mean": hidden.mean(0), "var": hidden.var(0)} if train else state["norm"]
    hidden = (hidden - now["mean"]) * jax.lax.rsqrt(now["var"] + 1e-5)
    hidden = jax.nn.relu(hidden * norm["scale"] + norm["bias"])
    if train:
        state = {"norm": jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state["norm"], now)}
    return hidden @ params["head"]["kernel"] + params["head"]["bias"], state


MODEL = Model(init, apply, "tiny")


def examples(labels, seed):
    inputs = np.random.default_rng(seed).normal(size=(len(labels), 2, 2, 1))
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))


HELDOUT = examples(np.arange(24) % CLASSES, 2)
# Methods whose step shares its code with `ltu`, and which take long to compile.
COSTLY = ("ltu_calibrated", "ltu_joint", "ltu_paper", "mi_match")
CASES = {
    "one example": UnlearnData(examples([1], 0), examples(np.arange(12) % CLASSES, 1), HELDOUT),
    # It is larger than the retain set too, and larger than a batch.
    "a class that the retain set has not": UnlearnData(
        examples(np.zeros(20, int), 0), examples(1 + np.arange(12) % 2, 1), HELDOUT
    ),
}
# Trained biases are not zero.
ORIGINAL = jax.tree.map(lambda leaf: leaf + 0.1, MODEL.init(jax.random.key(0), HELDOUT.inputs))


@pytest.fixture(scope="module", autouse=True)
def compile_quickly():
    """Compiling is nearly all that these runs cost."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in METHODS],
)
def test_every_method_runs_and_keeps_its_invariants(name, case):
    method = METHODS[name]
    known = {field.name for field in fields(method.config)}
    config = configure(method, {k: v for k, v in SMALL.items() if k in known})
    unlearner = method.build(MODEL, spec_of(CASES[case], CLASSES), config)
    # `unlearn` raises where something is not finite, or not as the method guarantees.
    result, _ = unlearn(unlearner, ORIGINAL, CASES[case], key=jax.random.key(1))
    assert jax.tree.structure(result) == jax.tree.structure(ORIGINAL)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(ORIGINAL)):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
    states = jax.tree.leaves(result.state), jax.tree.leaves(ORIGINAL.state)
    kept = all(np.array_equal(one, other) for one, other in zip(*states))
    assert kept == unlearner.invariants.preserves_model_state
