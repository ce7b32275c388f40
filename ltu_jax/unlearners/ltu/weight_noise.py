r"""Noise on the weights before the first step, for any unlearner.

.. math:: W \leftarrow W + \epsilon\, \sigma(W)\, \xi, \qquad \xi_{ij} \sim \mathcal N(0, 1),

for every weight matrix :math:`W` with standard deviation :math:`\sigma(W)`. An attack on both
models (`audit.two_model_auc`) finds the forget set by what changed. Noise changes everything,
and costs retain accuracy.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltu_jax.types import Key, PyTree, Unlearner


def with_weight_noise(unlearner: Unlearner, scale: float) -> Unlearner:
    """Return `unlearner` with noise on the weights before its first step.

    The noise is added after `prepare`, so that targets and teachers are the original's.

    Args:
      unlearner: its state has a field `variables`, as that of every method with steps.
      scale: standard deviation of the noise, relative to that of each weight matrix.

    """

    def prepare(key, variables, data):
        state = unlearner.prepare(key, variables, data)
        params = add_weight_noise(jax.random.fold_in(key, 2), state.variables.params, scale)
        return state._replace(variables=state.variables._replace(params=params))

    return unlearner._replace(prepare=prepare)


def add_weight_noise(key: Key, params: PyTree, scale: float) -> PyTree:
    """Return parameters with Gaussian noise in every array of two or more dimensions.

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.ones(2)}
      >>> add_weight_noise(jax.random.key(0), params, 0.1)["bias"]
      Array([1., 1.], dtype=float32)
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        x + scale * jnp.std(x) * jax.random.normal(k, x.shape, x.dtype) if x.ndim > 1 else x
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)
