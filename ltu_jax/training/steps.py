"""One step of a run, and the programs that it is compiled to.

On CPU a step is two programs. The first draws the batch; its shapes are those of the data, so they
differ between requests. The second updates the state; it is much larger, and its shapes are those
of the batch, so one program serves every request. Leaves of the state that the update returns as
they came, such as the teacher's outputs for each retain example, do not pass through it.

On other devices many steps are one program, in which a scan draws and updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from ltu_jax.training.compilation import jit
from ltu_jax.training.devices import Parallel, compile_for, whole
from ltu_jax.types import Info, Key, PyTree


@dataclass(frozen=True)
class Step:
    """One pure update of a state, in two parts; called, it is both.

    Attributes:
      draw: `(key, t, state, data) -> batch`, the batch of step `t`, any pytree.
      update: `(key, state, batch) -> (state, info)`, the next state and scalar diagnostics. Both
        parts get the same key.
    """

    draw: Callable[[Key, jax.Array, PyTree, PyTree], PyTree]
    update: Callable[[Key, PyTree, PyTree], tuple[PyTree, Info]]

    def __call__(self, key: Key, t: jax.Array, state: PyTree, data: PyTree) -> tuple[PyTree, Info]:
        """Return the next state and the diagnostics of step `t`."""
        return self.update(key, state, self.draw(key, t, state, data))


def advance(step: Step, count: int, key: Key, first: int, state: PyTree, data: PyTree):
    """Return the state after `count` steps from step `first` on, and their diagnostics."""

    def body(state, t):
        return step(jax.random.fold_in(key, t), t, state, data)

    if count == 1:
        state, info = body(state, jnp.asarray(first))
        return state, jax.tree.map(lambda x: x[None], info)
    return jax.lax.scan(body, state, first + jnp.arange(count))


# Cached, so that a step that runs for several models is compiled once.
@lru_cache(maxsize=8)
def compiled(step: Step, parallel: Parallel | None = None) -> Callable:
    """Return `advance` of a step, as one program for each count; donates the state."""
    return compile_for(partial(advance, step), parallel)


def compiled_parts(step: Step, parallel: Parallel | None = None) -> Callable:
    """Return `advance` of a single step for one run, as a program for each of its parts.

    Its arguments are those of `advance` behind `step`, with a count of 1 and, in every call, arrays
    of the same shapes. The update donates the leaves that it changes.
    """
    draw, updates = _draw(step), _updates(step, parallel)
    update: Update | None = None

    def take_step(count: int, key: Key, first: int, state: PyTree, data: PyTree):
        nonlocal update
        if count != 1:
            raise ValueError(f"count: is {count}; one step is taken at a time")
        t = jnp.asarray(first)
        batch = draw(key, t, state, data)
        leaves, structure = jax.tree.flatten(state)
        if update is None:
            kinds = structure, *map(jax.typeof, (*leaves, *jax.tree.leaves(batch)))
            if kinds not in updates:
                updates[kinds] = trace_update(step, parallel, key, t, state, batch)
            update = updates[kinds]
        changing, info = update.program(*_divide(leaves, update.changes), key, t, batch)
        new = iter(changing)
        leaves = [next(new) if one else x for x, one in zip(leaves, update.changes, strict=True)]
        return jax.tree.unflatten(structure, leaves), info

    return take_step


# Cached, as `compiled` is.
@lru_cache(maxsize=8)
def _draw(step: Step) -> Callable:
    def draw_batch(key: Key, t: jax.Array, state: PyTree, data: PyTree) -> PyTree:
        return step.draw(jax.random.fold_in(key, t), t, state, data)

    return jit(draw_batch, small=True)


@lru_cache(maxsize=8)
def _updates(step: Step, parallel: Parallel | None) -> dict[Any, Update]:
    """Return the compiled updates of a step by the structure and types of their arguments."""
    return {}


class Update(NamedTuple):
    """A compiled update.

    Attributes:
      changes: for each leaf of the state, whether the update returns another value than it got.
      program: `(changing, kept, key, t, batch) -> (changing, info)` on lists of leaves.
    """

    changes: tuple[bool, ...]
    program: Callable


def trace_update(
    step: Step, parallel: Parallel | None, key: Key, t: jax.Array, state: PyTree, batch: PyTree
) -> Update:
    """Trace an update once, find the leaves that it returns as they came, and compile the rest."""
    leaves, structure = jax.tree.flatten(state)

    def update(leaves: list, key: Key, t: jax.Array, batch: PyTree):
        state = jax.tree.unflatten(structure, leaves)
        state, info = step.update(jax.random.fold_in(key, t), state, batch)
        return jax.tree.leaves(state), jax.tree.map(lambda x: x[None], info)

    traced, shapes = jax.make_jaxpr(update, return_shape=True)(leaves, key, t, batch)
    pairs = zip(traced.jaxpr.invars[: len(leaves)], traced.jaxpr.outvars, strict=False)
    changes = tuple(before is not after for before, after in pairs)
    results = jax.tree.structure(shapes)

    def update_state(changing: list, kept: list, key: Key, t: jax.Array, batch: PyTree):
        sources = {True: iter(changing), False: iter(kept)}
        leaves = [next(sources[one]) for one in changes]
        flat = jaxpr_as_fun(traced)(*jax.tree.leaves((leaves, key, t, batch)))
        new, info = jax.tree.unflatten(results, flat)
        return _divide(new, changes)[0], info

    return Update(changes, jit(update_state, donate_argnums=0, out_shardings=whole(parallel)))


def _divide(leaves: list, changes: tuple[bool, ...]) -> tuple[list, list]:
    """Return the leaves that an update changes, and the others."""
    changing = [leaf for leaf, one in zip(leaves, changes, strict=True) if one]
    return changing, [leaf for leaf, one in zip(leaves, changes, strict=True) if not one]
