"""Slow weights that follow a method's fast weights part of the way, for any method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import Info, Key, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.rewind import of_inner


class SlowState(NamedTuple):
    """State of a method with slow weights.

    Attributes:
      inner: state of the method; its attribute `variables` holds the fast weights.
      slow: the slow weights, a pytree like the parameters.
    """

    inner: PyTree
    slow: PyTree


class SlowBatch(NamedTuple):
    """The batch of the method, and whether the slow weights move after the step."""

    inner: PyTree
    moves: jax.Array


def with_slow_weights(
    unlearner: Unlearner, rate: float, moves_at: Callable[[jax.Array], jax.Array]
) -> Unlearner:
    r"""Return `unlearner` with slow weights :math:`\phi`, from which the fast ones restart.

    After the chosen steps,

    .. math:: \phi \leftarrow r\, \theta + (1 - r)\, \phi, \qquad \theta \leftarrow \phi.

    Args:
      unlearner: a method whose state has the attribute `variables`.
      rate: r, from 0 to 1; at 1 nothing changes.
      moves_at: `step -> bool`, the steps after which the slow weights move.

    Returns:
      The unlearner; its result are the fast weights.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> from ltu_jax.unlearners.finetune import finetune
      >>> model, variables, data, spec = toy_problem()
      >>> slow = with_slow_weights(finetune(model, spec), 0.5, lambda t: t % 5 == 4)
      >>> unlearned, history = unlearn(slow, variables, data, key=jax.random.key(0))
      >>> history["loss"].shape
      (10,)

    References:
      Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", 2019,
      https://arxiv.org/abs/1907.08610
    """

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> SlowState:
        inner = unlearner.prepare(key, variables, data)
        return SlowState(inner, inner.variables.params)

    def sample(key: Key, t: jax.Array, state: SlowState, data: UnlearnData) -> SlowBatch:
        return SlowBatch(unlearner.sample(key, t, state.inner, data), moves_at(t))

    def step(key: Key, state: SlowState, batch: SlowBatch) -> tuple[SlowState, Info]:
        inner, info = unlearner.step(key, state.inner, batch.inner)
        fast = inner.variables.params
        moved = optax.incremental_update(fast, state.slow, rate)
        slow, params = (where(batch.moves, moved, other) for other in (state.slow, fast))
        variables = inner.variables._replace(params=params)
        return SlowState(inner._replace(variables=variables), slow), info

    def finish(state: SlowState) -> Variables:
        return unlearner.finish(state.inner)

    invariants = of_inner(unlearner.invariants)
    return Unlearner(prepare, sample, step, finish, unlearner.num_steps, invariants)


def where(condition: jax.Array, one: PyTree, other: PyTree) -> PyTree:
    """Return `one` if the scalar `condition` holds, else `other`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
