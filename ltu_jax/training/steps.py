"""One step of a run, and the programs that it is compiled to.

On CPU a step is two programs. The first draws the batch; its shapes are those of the data, so they
differ between requests. The second updates the state; it is much larger, and its shapes are those
of the batch, so one program serves every request. Leaves of the state that the update returns as
they came, such as the teacher's outputs for each retain example, do not pass through it.

On other devices many steps are one program, in which a scan draws and updates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltu_jax.training.compilation import jit
from ltu_jax.training.devices import Parallel, compile_for, whole
from ltu_jax.types import Info, Key, PyTree


class Step(NamedTuple):
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


@lru_cache(maxsize=8)
def compiled_parts(step: Step, parallel: Parallel | None = None) -> Callable:
    """Return `advance` of a single step, as one program for the draw and one for the update.

    Its arguments are those of `advance` behind `step`, with a count of 1. The update donates the
    leaves that it changes.
    """
    draw = jit(
        lambda key, t, state, data: step.draw(jax.random.fold_in(key, t), t, state, data),
    )
    update = jit(
        partial(_update_changing, step),
        static_argnums=0,
        donate_argnums=3,
        out_shardings=whole(parallel),
    )
    splits: dict[Any, Split] = {}

    def take_step(count: int, key: Key, first: int, state: PyTree, data: PyTree):
        assert count == 1
        t = jnp.asarray(first)
        batch = draw(key, t, state, data)
        leaves, structure = jax.tree.flatten(state)
        if structure not in splits:
            splits[structure] = _split(step, structure, key, leaves, batch)
        split = splits[structure]
        changing, kept = _choose(leaves, split.changes, True), _choose(leaves, split.changes, False)
        changing, info = update(split, key, t, changing, kept, batch)
        return jax.tree.unflatten(structure, _merge(split, changing, kept)), info

    return take_step


class Split(NamedTuple):
    """Which leaves of a state an update changes.

    Attributes:
      structure: of the state.
      changes: for each leaf, whether the update returns another value than it got.
    """

    structure: Any
    changes: tuple[bool, ...]


def _split(step: Step, structure: Any, key: Key, leaves: list, batch: PyTree) -> Split:
    """Trace an update and find the leaves that it returns as they came."""

    def update(leaves: list, key: Key, batch: PyTree) -> list:
        return jax.tree.leaves(step.update(key, jax.tree.unflatten(structure, leaves), batch)[0])

    program = jax.make_jaxpr(update)(leaves, key, batch).jaxpr
    pairs = zip(program.invars[: len(leaves)], program.outvars, strict=True)
    return Split(structure, tuple(before is not after for before, after in pairs))


def _update_changing(
    step: Step, split: Split, key: Key, t: jax.Array, changing: list, kept: list, batch: PyTree
) -> tuple[list, Info]:
    """Return the leaves that the update changes, and the diagnostics with a leading axis."""
    state = jax.tree.unflatten(split.structure, _merge(split, changing, kept))
    state, info = step.update(jax.random.fold_in(key, t), state, batch)
    leaves = _choose(jax.tree.leaves(state), split.changes, True)
    return leaves, jax.tree.map(lambda x: x[None], info)


def _choose(leaves: list, changes: tuple[bool, ...], changed: bool) -> list:
    return [leaf for leaf, is_changed in zip(leaves, changes, strict=True) if is_changed == changed]


def _merge(split: Split, changing: list, kept: list) -> list:
    """Return all leaves in their order."""
    sources = iter(changing), iter(kept)
    return [next(sources[0] if changes else sources[1]) for changes in split.changes]
