"""Forward passes that keep less: what they leave out is computed again when it is needed.

A gradient keeps the insides of its forward pass, and a meta-gradient keeps them twice. Only the
network is cut up here, never a loss: its outputs for a whole batch are small, and losses may look
at all of them at once, as the sorted matching loss does. So all gradients stay exact.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltu_jax.types import Array, PyTree

Forward = Callable[[PyTree, Array], jax.Array]


def economical(forward: Forward, remat: bool, micro_batches: int) -> Forward:
    """Return `forward`, `(params, inputs [B, ...]) -> [B, C]`, in a form that needs less memory.

    Args:
      forward: treats every example by itself.
      remat: keep nothing of the inside of a pass. For accelerators: XLA's CPU backend merges most
        of what is computed again with what was computed before, and keeps that after all.
      micro_batches: go through the batch in so many pieces, one after another, each with `remat`;
        1 is the whole of it. It is a scan, in which convolutions are slow on a CPU.
    """
    if micro_batches > 1:
        return lambda params, inputs: _in_pieces(forward, params, inputs, micro_batches)
    return jax.checkpoint(forward) if remat else forward


def _in_pieces(forward: Forward, params: PyTree, inputs: Array, count: int) -> jax.Array:
    """Apply `forward` to every `count`-th example, for each first one.

    Neighbours are on the same device of a sharded batch; so each piece is spread over all.
    """
    size = len(inputs)
    count = min(count, size)
    inputs = jnp.asarray(inputs)
    padded = jnp.take(inputs, jnp.arange(-(-size // count) * count) % size, axis=0)
    pieces = jnp.moveaxis(padded.reshape(-1, count, *inputs.shape[1:]), 1, 0)
    logits = jax.lax.map(jax.checkpoint(lambda piece: forward(params, piece)), pieces)
    return jnp.moveaxis(logits, 0, 1).reshape(-1, logits.shape[-1])[:size]
