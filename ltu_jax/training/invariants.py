"""Invariants that a method guarantees for its result, checked after every run."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import DivergedError, InvariantError
from ltu_jax.types import Invariants, PyTree, UnlearnData, Unlearner, Variables


def check_reinitialised(
    new: PyTree, original: PyTree, initial: Callable[[int], PyTree] | None = None
) -> None:
    """Raise `InvariantError` if a parameter array of a new model equals the original's.

    Arrays of a single value pass, and arrays whose initial values are the same for every seed, such
    as zeros and tables: without a gradient they stay equal.

    Args:
      new: parameters of the new model.
      original: parameters of the original.
      initial: returns initial parameters for a seed; called only if arrays are equal.
    """
    equal = [
        path
        for path, (one, other) in _pairs(new, original)
        if one.size > 1 and np.array_equal(one, other)
    ]
    if equal and initial is not None:
        draws = dict(_pairs(initial(0), initial(1)))
        equal = [path for path in equal if not np.array_equal(*draws[path])]
    if equal:
        raise InvariantError(f"parameter {equal[0]} equals the original's before the first step")


def check_prepared(
    method: Unlearner, state: PyTree, original: Variables, data: UnlearnData
) -> None:
    """Raise `InvariantError` if a method that starts from new weights has some of the original's.

    Args:
      method: an unlearner.
      state: what its `prepare` returned.
      original: variables before the run.
      data: what the method sees.
    """
    if not method.invariants.reinitialised:
        return

    def initial(seed: int) -> PyTree:
        # Other parameters for every seed: what `prepare` copies from them differs.
        other = original._replace(params=jax.tree.map(lambda x: x + seed, original.params))
        return method.finish(method.prepare(jax.random.key(seed), other, data)).params

    check_reinitialised(method.finish(state).params, original.params, initial)


def check_finite(result: Variables, original: Variables, of: str = "") -> None:
    """Raise `DivergedError` if values became NaN or infinite; the original's state may hold inf.

    Args:
      result: variables after a run.
      original: variables before it.
      of: model that the message names.
    """
    before = _flat(original)
    for path, new in _flat(result).items():
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            continue
        was_finite = np.isfinite(before[path]) if path in before else True
        if (np.isnan(new) | (np.isinf(new) & was_finite)).any():
            raise DivergedError(f"{of}{path} is not finite; lower the learning rate and run again")


def check_invariants(
    invariants: Invariants, state: PyTree, original: Variables, result: Variables
) -> None:
    """Raise `InvariantError` if the result of a run breaks an invariant of its method.

    Args:
      invariants: those of the method.
      state: last state of the run, for `invariants.trainable_mask`.
      original: variables before the run.
      result: variables after it.
    """
    changed = {path: new != old for path, (new, old) in _pairs(result.params, original.params)}
    if invariants.changes and not any(moved.any() for moved in changed.values()):
        raise InvariantError(
            "no parameter changed; the learning rate is too small, or a mask freezes everything"
        )
    if not invariants.changes and any(moved.any() for moved in changed.values()):
        raise InvariantError("a method that must not change the parameters changed them")
    if invariants.trainable_mask is not None:
        mask = _flat(invariants.trainable_mask(state))
        for path, moved in changed.items():
            broken = int(np.sum(moved & ~np.broadcast_to(mask[path] != 0, moved.shape)))
            if broken:
                raise InvariantError(f"{broken} frozen weights of parameter {path} changed")
    if invariants.preserves_model_state:
        for path, (new, old) in _pairs(result.state, original.state):
            if not np.array_equal(new, old):
                raise InvariantError(f"model state {path} changed; the method must preserve it")


def _pairs(one: PyTree, other: PyTree) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    other = _flat(other)
    return [(path, (leaf, other[path])) for path, leaf in _flat(one).items()]


def _flat(tree: PyTree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
