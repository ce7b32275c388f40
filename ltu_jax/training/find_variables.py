"""The variables of a model, found in a tree that also holds other things.

A training state holds an optimizer's state as well, Linen keeps statistics next to the parameters,
NNX among them, and most people wrap all of it in a dict of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models import nnx_state
from ltu_jax.types import PyTree, Variables

Path = tuple[str, ...]
Leaves = Mapping[Path, Any]

_STATE = ("state", "batch_stats", "model_state")
# Names of trees that are something else than the model's current variables.
_OTHER = re.compile(
    r"opt|optim(izer)?s?(_state)?|opt_state|mu|nu|trace|moments?|(.*_)?(ema|average[sd]?)(_.*)?"
    r"|grad(ient)?s?|steps?|rngs?|metrics?"
)


def find_variables(tree: PyTree, like: Variables, *, argument: str, source: str) -> Variables:
    """Return the leaves of `tree` that are the variables of a model, in the structure of `like`.

    Args:
      tree: a pytree of arrays or of their metadata, or an NNX module or state.
      like: variables of the model, for structure and shapes.
      argument: Python name of the argument that gave `tree`, for errors.
      source: subject of the error messages.

    Raises:
      InputError: they are missing, of another shape, or there are several.
    """
    leaves = _non_empty(by_path(tree))
    wanted = Variables(*(_non_empty(by_path(part)) for part in like))
    forms = (leaves, _without_value(leaves, "value"), _without_value(leaves, "raw_value"))
    for form in forms:
        where = _where_parameters(form, wanted, argument, source)
        if where is not None:
            state = _where_state(form, where, wanted.state, argument, source)
            params = _like(form, where, like.params)
            return Variables(params, _like(form, state, like.state))
    raise InputError(
        argument,
        f"{source} does not fit the model: {_difference(forms[1], wanted)}",
        "give the `model` and `data` that it was trained with",
    )


def by_path(tree: PyTree) -> dict[Path, Any]:
    """Return the leaves of a tree by their path; NNX modules and states become arrays."""

    def plain(part: Any) -> Any:
        return nnx_state(part) if isinstance(part, nnx.Module | nnx.State) else part

    tree = jax.tree.map(plain, tree, is_leaf=lambda part: isinstance(part, nnx.Module | nnx.State))
    return {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def shown(path: Path) -> str:
    """Return a path as it is written in Python."""
    return "".join(f"[{name!r}]" for name in path)


def _list(paths: Iterable[Path]) -> str:
    """Return the first three paths."""
    first = [shown(path) for path in islice(paths, 4)]
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")


def _names(path: tuple) -> Path:
    """Return the keys, indices and attributes of a path as strings, as checkpoints store them."""
    attributes = ("key", "idx", "name")
    return tuple(str(next(getattr(k, a) for a in attributes if hasattr(k, a))) for k in path)


def _without_value(leaves: Leaves, key: str) -> Leaves:
    """Return the leaves without the last key that Orbax adds to the variables of NNX."""
    return {path[:-1] if path[-1:] == (key,) else path: leaf for path, leaf in leaves.items()}


def _non_empty(leaves: Leaves) -> Leaves:
    """Return the leaves that have elements; checkpoints hold no others."""
    return {path: leaf for path, leaf in leaves.items() if 0 not in _shape(leaf)}


def _like(leaves: Leaves, prefix: Path, like: PyTree) -> PyTree:
    """Return the leaves below a path in the structure of `like`."""

    def leaf(path: tuple, expected: Any) -> Any:
        found = leaves.get(prefix + _names(path))
        return np.zeros(expected.shape, expected.dtype) if found is None else found

    return jax.tree_util.tree_map_with_path(leaf, like)


def _where_parameters(leaves: Leaves, wanted: Variables, argument: str, source: str) -> Path | None:
    """Return the path of the tree that holds the parameters; None if there is none."""
    fitting = [
        prefix
        for prefix in _prefixes(leaves, wanted.params)
        if not _added(leaves, prefix, wanted) and not any(map(_is_other, prefix))
    ]
    named = [prefix for prefix in fitting if prefix[-1:] == ("params",)] or fitting
    shortest = [prefix for prefix in named if len(prefix) == min(map(len, named))]
    if len(shortest) > 1:
        raise InputError(
            argument,
            f"{source} holds parameters of this model under {_list(shortest)}",
            "read the ones you mean and give them as `params`",
        )
    for prefix in shortest:
        nearby = _next_to(leaves, prefix)
        if nearby:
            raise InputError(
                argument,
                f"{source} holds parameters of this model under {shown(prefix)}, next to those of "
                f"others ({_list(nearby)})",
                "read the ones you mean and give them as `params`",
            )
    return next(iter(shortest), None)


def _where_state(leaves: Leaves, where: Path, wanted: Leaves, argument: str, source: str) -> Path:
    """Return the path of the tree that holds the model state."""
    remedy = "give the `model` that it was trained with, and with BatchNorm its statistics too"
    if not wanted:
        for path, leaf in leaves.items() if where else ():
            name = path[len(where) - 1 : len(where)]
            if path[: len(where) - 1] == where[:-1] and {*name} & {*_STATE} and _is_float(leaf):
                problem = f"{shown(path)} has shape {_shape(leaf)}, expected nothing"
                raise InputError(argument, f"{source} does not fit the model: {problem}", remedy)
        return ()
    fitting = [p for p in _prefixes(leaves, wanted) if not any(map(_is_other, p))]
    if not fitting:
        missing = [path for path in wanted if not _prefixes(leaves, {path: wanted[path]})]
        problem = (
            f"{source} holds the parameters of the model, but not its state: "
            f"['state']{shown([*missing, *wanted][0])} has nothing, expected shape "
            f"{_shape(wanted[[*missing, *wanted][0]])}"
        )
        raise InputError(argument, problem, remedy)

    def shared(path: Path) -> int:
        return sum(1 for _ in _common(path, where))

    nearest = [p for p in fitting if shared(p) == max(map(shared, fitting))]
    nearest = [p for p in nearest if len(p) == min(map(len, nearest))]
    if len(nearest) > 1:
        problem = f"{source} holds a state of this model under {_list(nearest)}"
        raise InputError(argument, problem, "read the one you mean and give it with `params`")
    return nearest[0]


def _prefixes(leaves: Leaves, wanted: Leaves) -> list[Path]:
    """Return every path below which all wanted leaves lie, in their shapes."""
    if not wanted:
        return []
    longest = max(wanted, key=len)
    ends = (path for path in leaves if path[len(path) - len(longest) :] == longest)
    return [
        prefix
        for prefix in (path[: len(path) - len(longest)] for path in ends)
        if all(
            prefix + path in leaves and _shape(leaves[prefix + path]) == _shape(leaf)
            for path, leaf in wanted.items()
        )
    ]


def _added(leaves: Leaves, prefix: Path, wanted: Variables) -> list[Path]:
    """Return the float arrays below a path that are no variables of the model."""
    below = (path[len(prefix) :] for path in leaves if path[: len(prefix)] == prefix)
    return [
        path
        for path in below
        if path not in wanted.params
        and path not in wanted.state
        and _is_float(leaves[prefix + path])
        and not (set(path) & {"rngs", *_STATE})
    ]


def _next_to(leaves: Leaves, where: Path) -> list[Path]:
    """Return the trees next to `where` that may be those of other models."""
    found: dict[Path, None] = {}
    for depth, name in enumerate(where):
        if name == "params":
            continue
        for path, leaf in leaves.items():
            branch = path[: depth + 1]
            if branch[:-1] == where[:depth] and branch != where[: depth + 1] and _is_float(leaf):
                other = any(map(_is_other, path)) or path[depth] in _STATE
                if not other and len(_shape(leaf)):
                    found[branch] = None
    return list(found)


def _difference(leaves: Leaves, wanted: Variables) -> str:
    """Return the first leaf of the parameters that differs from the wanted one."""
    names = set(wanted.params)
    prefixes = {path[:end] for path in leaves for end in range(len(path) + 1)}
    prefixes = {prefix for prefix in prefixes if not any(map(_is_other, prefix))} or {()}

    def known(prefix: Path) -> int:
        return sum(prefix + name in leaves for name in names)

    best = max(sorted(prefixes, key=len), key=known)
    if not known(best):
        path = min(wanted.params)
        return (
            f"['params']{shown(path)} has nothing, expected shape {_shape(wanted.params[path])} "
            f"(found {_list(leaves)})"
        )
    for path in sorted(names | set(_added(leaves, best, wanted))):
        stored, expected = leaves.get(best + path), wanted.params.get(path)
        found, awaited = (
            "nothing" if leaf is None else f"shape {_shape(leaf)}" for leaf in (stored, expected)
        )
        if found != awaited:
            return f"{shown(best + path)} has {found}, expected {awaited}"
    return f"{shown(best)} has other arrays"


def _common(one: Path, other: Path) -> Iterator[str]:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return
        yield a


def _is_other(name: str) -> bool:
    """Whether the name of a tree says that it holds something else than the model's variables."""
    return _OTHER.fullmatch(name) is not None


def _is_float(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape) if hasattr(leaf, "shape") else np.shape(leaf)
