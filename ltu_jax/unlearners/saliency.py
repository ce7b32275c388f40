"""Weight saliency: masks of the weights with the largest gradients (Fan et al. 2024)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Examples, Model, PyTree, Variables
from ltu_jax.unlearners.sampling import take


def saliency_mask(
    model: Model,
    variables: Variables,
    examples: Examples,
    share: float,
    batch_size: int = 256,
) -> PyTree:
    """Return booleans like the parameters: True for the `share` of weights of largest `saliency`.

    All weights are ranked together, biases and normalisation included. Of P weights `int(P *
    share)` are kept; of equal ones the first in the order of the pytree.

    Args:
      model: takes raw inputs.
      variables: the original's.
      examples: the forget set.
      share: share of the weights, above 0 and up to 1.
      batch_size: see `saliency`.
    """
    return largest(saliency(model, variables, examples, batch_size), share)


def saliency(
    model: Model, variables: Variables, examples: Examples, batch_size: int = 256
) -> PyTree:
    r"""Return :math:`|\sum_b \nabla \frac{1}{|b|} \sum_{i \in b} \ell_i|` per weight.

    The model is in evaluation mode; :math:`\ell` is cross-entropy and b runs over consecutive
    batches. As in the authors' code each batch enters by its mean, so the examples of a short last
    batch weigh more.
    """
    size = len(examples.labels)
    batch_size = min(batch_size, size)
    gradient = jit(jax.grad(_weighted_loss, argnums=1), static_argnums=0)
    total = jax.tree.map(jnp.zeros_like, variables.params)
    for start in range(0, size, batch_size):
        # A short batch would compile the network a second time: fill it with rows of weight 0.
        rows = start + np.arange(batch_size)
        weights = (rows < size) / np.sum(rows < size)
        batch = take(examples, np.minimum(rows, size - 1))
        one = gradient(model.apply, variables.params, variables.state, batch, weights)
        total = jax.tree.map(jnp.add, total, one)
    return jax.tree.map(jnp.abs, total)


def largest(scores: PyTree, share: float) -> PyTree:
    """Return booleans like `scores` that mark the largest `share` of all its values together."""
    leaves, structure = jax.tree.flatten(scores)
    flat = jnp.concatenate([leaf.ravel() for leaf in leaves])
    order = jnp.argsort(flat, descending=True, stable=True)
    kept = jnp.zeros(flat.shape, bool).at[order[: int(flat.size * share)]].set(True)
    parts = jnp.split(kept, np.cumsum([leaf.size for leaf in leaves])[:-1])
    kept = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return structure.unflatten(kept)


def _weighted_loss(apply, params: PyTree, state: PyTree, batch: Examples, weights) -> jax.Array:
    logits, _ = apply(Variables(params, state), batch.inputs)
    return jnp.sum(weights * cross_entropy(logits, batch.labels))
