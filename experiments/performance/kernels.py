"""Small kernels by pytest-benchmark; not part of the tests.

pytest experiments/performance/kernels.py -n 0
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.unlearners.ltu import (
    DIVERSE,
    InnerStep,
    harmonize,
    match_membership,
    meta_gradient,
)
from ltu_jax.unlearners.ltu.membership import fit_ensemble
from ltu_jax.unlearners.ltu.sampling import QuerySource, draw_queries

KEY = jax.random.key(0)
WEIGHTS = 1_000_000
EXAMPLES, CLASSES, AUDIT = 10_000, 10, 128


def measure(benchmark, function, *arguments):
    """Time a function that is compiled ahead; returns what it returns."""
    call = jax.jit(function).lower(*arguments).compile()
    return benchmark(lambda: jax.block_until_ready(call(*arguments)))


def test_harmonize(benchmark):
    one, other = (jax.random.normal(key, (WEIGHTS,)) for key in jax.random.split(KEY))
    direction, _ = measure(benchmark, harmonize, one, other)
    assert direction.shape == one.shape


def test_membership_losses(benchmark):
    logits = jax.random.normal(KEY, (AUDIT, CLASSES))
    labels = jnp.arange(AUDIT) % CLASSES
    outputs = (logits, labels)
    ensemble = fit_ensemble(KEY, DIVERSE, outputs, outputs, outputs, quantiles=AUDIT)
    losses = measure(
        benchmark,
        lambda ensemble, *outputs: match_membership().losses(ensemble, (), *outputs, labels),
        ensemble,
        *outputs,
    )
    assert losses.shape == (len(DIVERSE),)


def test_draw_queries(benchmark):
    labels = jnp.arange(EXAMPLES) % CLASSES
    source = QuerySource(labels, jnp.ones(EXAMPLES), labels)
    rows = measure(
        benchmark,
        lambda key, source: draw_queries(key, ("uniform", "class", "hard"), source, CLASSES, 64),
        KEY,
        source,
    )
    assert len(np.unique(rows)) == rows.size


def test_meta_gradient(benchmark):
    curvature = jnp.linspace(0.0, 1.0, WEIGHTS)

    def gradient(params):
        return meta_gradient(
            lambda p: jnp.sum(curvature * p**2) / 2,
            lambda p: jnp.sum(p**2)[None] / 2,
            params,
            InnerStep(lr=0.1, tune_weight=0.0),
        )[0]

    found = measure(benchmark, gradient, jnp.ones(WEIGHTS))
    np.testing.assert_allclose(found, (1 - 0.1 * curvature) ** 2, rtol=1e-5)
