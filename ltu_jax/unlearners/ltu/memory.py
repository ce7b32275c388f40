"""Forward passes with less memory: rematerialised and micro-batched.

A gradient keeps the activations of its forward pass, and a meta-gradient keeps them twice. Only the
network's pass is divided, never a loss. Its logits for a whole batch are small, and a loss may
depend on all of them at once, as the sorted matching loss does. So all gradients stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ltu_jax.types import Array, PyTree
from ltu_jax.unlearners.base import Config, PositiveInt

Forward = Callable[[PyTree, Array], jax.Array]


@dataclass(frozen=True)
class Memory(Config):
    """Options that trade time for memory; they do not change the results.

    Attributes:
      remat: recompute activations in the backward pass. For accelerators: XLA's CPU backend merges
        most of the recomputation with the first computation.
      micro_batches: number of pieces in which a batch passes through the network, one after
        another, each with `remat`. Convolutions inside this scan are slow on a CPU.
    """

    remat: bool = False
    micro_batches: PositiveInt = 1


def rematerialized(forward: Forward, memory: Memory) -> Forward:
    """Return `forward`, `(params, inputs [B, ...]) -> [B, C]`, in a form that needs less memory.

    Args:
      forward: treats every example independently.
      memory: see `Memory`.
    """
    if memory.micro_batches > 1:
        return lambda params, inputs: _in_pieces(forward, params, inputs, memory.micro_batches)
    return jax.checkpoint(forward) if memory.remat else forward


def _in_pieces(forward: Forward, params: PyTree, inputs: Array, count: int) -> jax.Array:
    """Apply `forward` to every `count`-th example, for each first one.

    Neighbours are on the same device of a sharded batch, so each piece is spread over all devices.
    """
    size = len(inputs)
    count = min(count, size)
    inputs = jnp.asarray(inputs)
    padded = jnp.take(inputs, jnp.arange(-(-size // count) * count) % size, axis=0)
    pieces = jnp.moveaxis(padded.reshape(-1, count, *inputs.shape[1:]), 1, 0)
    logits = jax.lax.map(jax.checkpoint(lambda piece: forward(params, piece)), pieces)
    return jnp.moveaxis(logits, 0, 1).reshape(-1, logits.shape[-1])[:size]
