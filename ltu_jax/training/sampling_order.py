"""Random orders of which only a part is computed: a batch from a large set without sorting it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltu_jax.types import Key

# Each halves what is left of any bias; 64 leave less than float32 can tell of a million examples.
ROUNDS = 64


def rows_at(key: Key, positions: jax.Array, size: int) -> jax.Array:
    """Return what stands at some positions of a random permutation of `range(size)`.

    The same key gives the same permutation whatever is asked of it, and the work is that of the
    positions alone: `jax.random.permutation` sorts all of `range(size)` for every batch.

    This is the swap-or-not shuffle (Hoang, Morris and Rogaway, 2012, "An enciphering scheme based
    on a card shuffle"): in each round the examples are paired at random, and each pair trades
    places or not by the toss of a coin.

    Args:
      key: chooses the permutation.
      positions: integers of any shape from 0 to `size - 1`.
      size: of the set.

    Example:
      >>> jnp.sort(rows_at(jax.random.key(0), jnp.arange(5), 5)).tolist()
      [0, 1, 2, 3, 4]
    """

    def trade(rows: jax.Array, drawn: jax.Array) -> tuple[jax.Array, None]:
        partner = (drawn[0] % size).astype(rows.dtype) - rows
        partner = jnp.where(partner < 0, partner + size, partner)
        upper = jnp.maximum(rows, partner).astype(jnp.uint32)
        coin = _mixed(_mixed(upper ^ drawn[1]) ^ drawn[2]) >> 31
        return jnp.where(coin == 1, partner, rows), None

    return jax.lax.scan(trade, jnp.asarray(positions), jax.random.bits(key, (ROUNDS, 3)))[0]


def _mixed(bits: jax.Array) -> jax.Array:
    """Return 32 bits in each of which every bit of the argument has a say."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)  # Wellons' "lowbias32"
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
