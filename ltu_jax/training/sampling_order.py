"""Shuffled epoch orders, evaluated at single positions without sorting the data set."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltu_jax.types import Key

# Each round halves the bias; after 64 it is below float32 precision for a million examples.
ROUNDS = 64


def rows_at(key: Key, positions: jax.Array, size: int) -> jax.Array:
    """Return the entries at `positions` of a random permutation of `range(size)`.

    The permutation depends on the key only, and the cost on the number of positions only, whereas
    `jax.random.permutation` sorts `range(size)` for every batch. In each round of the swap-or-not
    shuffle the entries are paired at random, and a random bit decides whether a pair is swapped.

    Args:
      key: of the permutation.
      positions: integers of any shape from 0 to `size - 1`.
      size: number of entries.

    Example:
      >>> jnp.sort(rows_at(jax.random.key(0), jnp.arange(5), 5)).tolist()
      [0, 1, 2, 3, 4]

    References:
      Hoang, Morris & Rogaway, "An Enciphering Scheme Based on a Card Shuffle", CRYPTO 2012.
    """

    def swap(rows: jax.Array, drawn: jax.Array) -> tuple[jax.Array, None]:
        partner = (drawn[0] % size).astype(rows.dtype) - rows
        partner = jnp.where(partner < 0, partner + size, partner)
        upper = jnp.maximum(rows, partner).astype(jnp.uint32)
        bit = _mix(_mix(upper ^ drawn[1]) ^ drawn[2]) >> 31
        return jnp.where(bit == 1, partner, rows), None

    return jax.lax.scan(swap, jnp.asarray(positions), jax.random.bits(key, (ROUNDS, 3)))[0]


def balanced_rows(key: Key, count: int, size: int) -> jax.Array:
    """Return `count` random rows of `range(size)`, each as often as any other or once more.

    >>> sorted(jnp.bincount(balanced_rows(jax.random.key(0), 8, 3)).tolist())
    [2, 3, 3]
    """
    if count <= size:
        return rows_at(key, jnp.arange(count), size)
    whole = jnp.tile(jnp.arange(size), count // size)
    return jnp.concatenate([whole, rows_at(key, jnp.arange(count % size), size)])


def _mix(bits: jax.Array) -> jax.Array:
    """Mix 32 bits so that each output bit depends on every input bit."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)  # Wellons' "lowbias32"
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
