"""Batches from shuffled passes over one or two sets of examples."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ltu_jax.training.sampling_order import rows_at
from ltu_jax.types import Array, Examples, Key, PyTree


@dataclass(frozen=True)
class Epochs:
    """Shuffled passes over a set, in batches of one size.

    Attributes:
      size: number of examples in the set.
      batch_size: examples per step, reduced to `size` if larger.
      count: number of passes.

    Example:
      >>> epochs = Epochs(size=10, batch_size=4, count=2)
      >>> epochs.steps_per_epoch, epochs.num_steps
      (3, 6)
      >>> len(epochs.rows(jax.random.key(0), 5))
      4
    """

    size: int
    batch_size: int
    count: int

    def __post_init__(self):
        object.__setattr__(self, "batch_size", min(self.batch_size, self.size))

    @property
    def steps_per_epoch(self) -> int:
        """Return how many batches a pass takes; the last one borrows from the next pass."""
        return batches_per_pass(self.size, self.batch_size)

    @property
    def num_steps(self) -> int:
        """Return how many batches all passes take."""
        return self.count * self.steps_per_epoch

    def rows(self, key: Key, t: jax.Array | int) -> jax.Array:
        """Return the rows `[batch_size]` of batch `t`, see `shuffled_rows`."""
        return shuffled_rows(key, t, self.size, self.batch_size)


def batches_per_pass(num_examples: int, batch_size: int) -> int:
    """Return how many batches one pass takes; the last one borrows from the next pass."""
    return -(-num_examples // batch_size)


def shuffled_rows(
    key: Key, index: jax.Array | int, num_examples: int, batch_size: int
) -> jax.Array:
    """Return the rows `[batch_size]` of batch `index` of endless shuffled passes through a set.

    Each pass is a new permutation drawn from `key`; the passes are cut into batches of equal size.
    So every example comes once before any comes again, also where a batch exceeds the set.
    """
    positions = index * batch_size + jnp.arange(batch_size)
    first = index * batch_size // num_examples
    passes = first + jnp.arange((batch_size - 2) // num_examples + 2)
    places = positions % num_examples
    rows = jax.vmap(lambda p: rows_at(jax.random.fold_in(key, p), places, num_examples))(passes)
    return rows[positions // num_examples - first, jnp.arange(batch_size)]


def take(tree: PyTree, rows: Array) -> PyTree:
    """Return the rows of every array in `tree`, such as `Examples` with their teacher logits."""
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), tree)


def concatenate(first: Examples, second: Examples) -> Examples:
    """Return the two sets, one after the other."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def take_joint(first: Examples, second: Examples, rows: jax.Array) -> Examples:
    """Return rows of `concatenate(first, second)` without making it."""
    size = len(first.labels)
    one = take(first, jnp.minimum(rows, size - 1))
    other = take(second, jnp.maximum(rows - size, 0))
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.reshape(rows < size, (-1, *[1] * (a.ndim - 1))), a, b),
        one,
        other,
    )
