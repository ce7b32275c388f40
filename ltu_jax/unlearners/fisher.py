"""Sums over single examples, or over batches, of a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.training.compilation import jit
from ltu_jax.types import Examples, PyTree
from ltu_jax.unlearners.sampling import take

PerBatch = Callable[[PyTree, Examples], PyTree]


def sum_over_batches(fn: PerBatch, params: PyTree, examples: Examples, batch_size: int) -> PyTree:
    """Return the sum of `fn(params, batch)` over batches in order; the last one may be short."""
    size = len(examples.labels)
    examples = jax.tree.map(jnp.asarray, examples)

    def add(total, params, examples, rows):
        return _add(total, fn(params, take(examples, rows)))

    add = jit(add, donate_argnums=0)
    total = _zeros(fn, params, take(examples, np.arange(1)))
    for start in range(0, size, batch_size):
        total = add(total, params, examples, np.arange(start, min(start + batch_size, size)))
    return total


def sum_over_examples(
    fn: PerBatch, params: PyTree, examples: Examples, chunk_size: int | None = None
) -> PyTree:
    """Return the sum of `fn(params, batch)` over batches of one example each, `[1, ...]`.

    Args:
      fn: function of the parameters and one example, such as its squared gradient.
      params: the first argument of `fn`.
      examples: `[N, ...]`.
      chunk_size: examples per vectorised call; memory holds a result for each. None picks by
        backend.
    """
    size = len(examples.labels)
    chunk_size = min(chunk_size or default_chunk_size(), size)
    examples = jax.tree.map(jnp.asarray, examples)

    def add(total, params, examples, rows, valid):
        each = jax.vmap(fn, (None, 0))(params, take(examples, rows[:, None]))
        return _add(total, jax.tree.map(lambda x: jnp.tensordot(valid.astype(x.dtype), x, 1), each))

    add = jit(add, donate_argnums=0)
    total = _zeros(fn, params, take(examples, np.arange(1)))
    for start in range(0, size, chunk_size):
        # A short last chunk would compile again: pad it, with weight 0.
        rows = np.arange(start, start + chunk_size)
        total = add(total, params, examples, rows % size, rows < size)
    return total


def default_chunk_size() -> int:
    """Return 1 on CPU, where mapped convolutions are slower than a loop, and more elsewhere."""
    return 1 if jax.default_backend() == "cpu" else 32


def _add(one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, one, other)


def _zeros(fn: PerBatch, params: PyTree, batch: Examples) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, params, batch))
