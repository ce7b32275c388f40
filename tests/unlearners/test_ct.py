"""Convolution transpose: which kernels turn, what stays, and what follows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import build, from_functions
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ct import ct
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune

SHAPES = {"square": (3, 3, 1, 2), "wide": (1, 3, 2, 2), "point": (1, 1, 2, 2), "head": (32, 3)}


def init(key, inputs):
    return {name: jax.random.normal(key, shape) for name, shape in SHAPES.items()}


def apply(params, inputs):
    hidden = inputs
    for name in ("square", "wide", "point"):
        hidden = jax.lax.conv_general_dilated(
            hidden, params[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return hidden.reshape(len(hidden), -1) @ params["head"]


NET = from_functions(init, apply, name="net")
DATA = UnlearnData(*[Examples(jnp.ones((6, 4, 4, 1)), jnp.arange(6) % 3)] * 3)
ORIGINAL = NET.init(jax.random.key(0), DATA.retain.inputs)


def prepared(model=NET, original=ORIGINAL):
    method = ct(model, spec_of(DATA, 3))
    return method.finish(method.prepare(jax.random.key(1), original, DATA)).params


def test_square_kernels_are_transposed_and_nothing_else():
    params = prepared()
    for name in ("wide", "point", "head"):
        np.testing.assert_array_equal(params[name], ORIGINAL.params[name])
    old, new = np.array(ORIGINAL.params["square"]), np.array(params["square"])
    for i in range(3):
        for j in range(3):
            np.testing.assert_array_equal(new[i, j], old[j, i])
    assert not np.array_equal(new, old)


def test_a_convolution_sees_its_input_mirrored():
    """With transposed filters, a transposed image gives the transposed features of the original."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 6, 6, 1)), jnp.float32)

    def features(images, params):
        return jax.lax.conv_general_dilated(
            images, params["square"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    turned = features(images.swapaxes(1, 2), prepared())
    wanted = features(images, ORIGINAL.params).swapaxes(1, 2)
    np.testing.assert_allclose(turned, wanted, rtol=1e-5, atol=1e-5)


def test_training_is_fine_tuning():
    key = jax.random.key(2)
    method, tuning = (
        ct(NET, spec_of(DATA, 3)),
        finetune(NET, spec_of(DATA, 3), FineTuneConfig(3, 64, 1e-3)),
    )
    assert method.num_steps == tuning.num_steps == 3
    state = method.prepare(key, ORIGINAL, DATA)
    plain = tuning.prepare(key, Variables(prepared(), {}), DATA)
    batch = jax.jit(method.sample)(key, 0, state, DATA)
    state, _ = jax.jit(method.step)(key, state, batch)
    plain, _ = jax.jit(tuning.step)(key, plain, batch)
    for one, other in zip(*(jax.tree.leaves(s.variables) for s in (state, plain))):
        np.testing.assert_array_equal(one, other)


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(InputError, match="mlp") as refused:
        ct(build("mlp", num_classes=3), spec_of(DATA, 3))
    assert refused.value.argument == "method"
