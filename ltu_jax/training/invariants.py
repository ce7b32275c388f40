"""What a method claims of its result, checked after every run; what breaks is told, and loudly."""

from __future__ import annotations

import jax
import numpy as np

from ltu_jax.errors import InvariantError
from ltu_jax.types import Claims, PyTree, Variables


def check_fresh(fresh: PyTree, original: PyTree) -> None:
    """Raise `InvariantError` if a parameter array of `fresh` is the original's.

    Arrays of a single value are let pass: a zero bias is both fresh and trained.
    """
    for path, (new, old) in _pairs(fresh, original):
        if new.size > 1 and np.array_equal(new, old):
            raise InvariantError(f"parameter {path} is the original's in a network that is new")


def check_claims(claims: Claims, state: PyTree, original: Variables, result: Variables) -> None:
    """Raise `InvariantError` if the result of a run is not what the method claims.

    Args:
      claims: of the method.
      state: the run's last state, for `claims.movable`.
      original: what the run started from.
      result: what it left.
    """
    changed = {path: new != old for path, (new, old) in _pairs(result.params, original.params)}
    if claims.changes and not any(moved.any() for moved in changed.values()):
        raise InvariantError(
            "no parameter changed; the learning rate is too small, or a mask freezes everything"
        )
    if not claims.changes and any(moved.any() for moved in changed.values()):
        raise InvariantError("a method that claims to change nothing changed the parameters")
    if claims.movable is not None:
        movable = _flat(claims.movable(state))
        for path, moved in changed.items():
            broken = int(np.sum(moved & ~np.broadcast_to(movable[path] != 0, moved.shape)))
            if broken:
                raise InvariantError(f"{broken} frozen weights of parameter {path} moved")
    if claims.keeps_state:
        for path, (new, old) in _pairs(result.state, original.state):
            if not np.array_equal(new, old):
                raise InvariantError(f"model state {path} changed, though it should be kept")


def _pairs(one: PyTree, other: PyTree) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    other = _flat(other)
    return [(path, (leaf, other[path])) for path, leaf in _flat(one).items()]


def _flat(tree: PyTree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
