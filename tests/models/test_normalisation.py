"""Batch normalisation against Flax's: same variables, outputs, statistics and derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models.normalisation import BatchNorm

INPUTS = 3.0 * jax.random.normal(jax.random.key(0), (6, 5, 4, 7)) + jnp.arange(7.0) / 2


def pair(train):
    """Return ours and Flax's, and variables that are not those of the start."""
    ours = BatchNorm(use_running_average=not train)
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
    variables = theirs.init(jax.random.key(1), INPUTS)
    own = ours.init(jax.random.key(1), INPUTS)
    jax.tree.map(np.testing.assert_array_equal, own, variables)
    keys = iter(jax.random.split(jax.random.key(2), 4))
    return ours, theirs, jax.tree.map(lambda x: jax.random.uniform(next(keys), x.shape), own)


def loss(module, params, inputs, statistics):
    """Return a curved function of the outputs, and the new statistics."""
    variables = {"params": params, "batch_stats": statistics}
    outputs, state = module.apply(variables, inputs, mutable=["batch_stats"])
    return jnp.sum(jnp.tanh(outputs) ** 2), (outputs, state["batch_stats"])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_outputs_statistics_and_derivatives_are_those_of_flax(train, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    ours, theirs, variables = pair(train)
    params, statistics = variables["params"], variables["batch_stats"]

    def derivatives(module):
        def gradient(params, inputs):
            return jax.grad(lambda *at: loss(module, *at, statistics)[0], (0, 1))(params, inputs)

        tangent = (jax.tree.map(jnp.ones_like, params), jnp.cos(INPUTS))
        return jax.jvp(gradient, (params, INPUTS), tangent)

    results = [
        (loss(module, params, INPUTS, statistics), derivatives(module)) for module in (ours, theirs)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), results[0], results[1]
    )


def test_half_precision_sums_in_full_precision():
    ours = BatchNorm(use_running_average=False)
    inputs = jnp.full((4096, 1, 1, 1), 1.0, jnp.bfloat16)
    variables = ours.init(jax.random.key(0), inputs)
    low = jax.tree.map(lambda x: x.astype(inputs.dtype), variables["params"])
    variables = {**variables, "params": low}
    outputs, state = ours.apply(variables, inputs, mutable=["batch_stats"])
    assert outputs.dtype == inputs.dtype
    assert float(state["batch_stats"]["mean"][0]) == pytest.approx(0.1)
