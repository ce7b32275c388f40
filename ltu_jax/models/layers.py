"""The layers of any network, in the order in which a forward pass comes to them.

A `Model` has no list of layers. What it has is a pytree of arrays, where those of one layer share a
parent, and a forward pass, which can be traced without being run: the order of the layers is the
order in which their arrays first meet the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from ltu_jax.errors import InputError
from ltu_jax.types import Array, Model, PyTree, Variables

Path = tuple[Any, ...]


class Head(NamedTuple):
    """The paths of the output layer's kernel `[d, C]` and bias `[C]` in the parameters."""

    kernel: Path
    bias: Path


def layers(model: Model, variables: Variables, inputs: Array) -> list[list[Path]]:
    """Return the layers from input to output, each as the paths of its parameters.

    A layer is what shares a parent in the pytree. One that the pass never uses comes first.

    Args:
      model: traced in evaluation mode, not run.
      variables: of the model; the shapes that `jax.eval_shape` returns do.
      inputs: `[B, ...]`; a `jax.ShapeDtypeStruct` does.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.models import build
      >>> model, inputs = build("mlp", num_classes=10), jnp.ones([1, 64])
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
      >>> [jax.tree_util.keystr(paths[0][:-1]) for paths in layers(model, shapes, inputs)]
      ["['Dense_0']", "['Dense_1']", "['Dense_2']"]
    """
    return _grouped(_first_uses(model, variables, inputs).params)


def last_layers(model: Model, variables: Variables, inputs: Array, k: int) -> Variables:
    """Return booleans like `variables`: what belongs to the last `k` layers, all if there are less.

    Only layers with an array of two or more dimensions count, as in the code of Goel et al. 2022
    (arXiv 2201.06640); a normalisation layer goes with the layer before it. Model state belongs to
    the last layers if the pass comes to it after all other layers.

    Args:
      model: see `layers`.
      variables: see `layers`.
      inputs: see `layers`.
      k: how many layers, at least 1.
    """
    uses = _first_uses(model, variables, inputs)
    arrays = _by_path(variables.params)
    chosen: set[Path] = set()
    counted = 0
    for paths in reversed(_grouped(uses.params)):
        if counted < k:
            chosen.update(paths)
            counted += any(len(arrays[path].shape) > 1 for path in paths)
    others = [use for path, use in _by_path(uses.params).items() if path not in chosen]
    border = max(others, default=-math.inf)
    return Variables(
        jax.tree_util.tree_map_with_path(lambda path, _: path in chosen, uses.params),
        jax.tree.map(lambda use: use > border, uses.state),
    )


def used_after(model: Model, variables: Variables, inputs: Array, chosen: PyTree) -> PyTree:
    """Return booleans like the model state: what the pass comes to after the first chosen array.

    Args:
      model: see `layers`.
      variables: see `layers`.
      inputs: see `layers`.
      chosen: booleans like the parameters.
    """
    uses = _first_uses(model, variables, inputs)
    ranks = jax.tree.leaves(
        jax.tree.map(lambda choice, use: use if choice else -1, chosen, uses.params)
    )
    first = min((rank for rank in ranks if rank >= 0), default=math.inf)
    return jax.tree.map(lambda use: use > first, uses.state)


def head(model: Model, variables: Variables, inputs: Array, num_classes: int) -> Head:
    """Return where the output layer is: the last of `layers`, a kernel `[d, C]` and a bias `[C]`.

    Raises:
      InputError: the last layer is something else.
    """
    arrays = _by_path(variables.params)
    *_, last = layers(model, variables, inputs)
    by_rank = {len(arrays[path].shape): path for path in last}
    fits = all(arrays[path].shape[-1:] == (num_classes,) for path in last)
    if len(last) != 2 or set(by_rank) != {1, 2} or not fits:
        found = ", ".join(
            f"{jax.tree_util.keystr(path)} {list(arrays[path].shape)}" for path in last
        )
        raise InputError(
            f"--model {model.name}: the last layer must be a kernel [d, {num_classes}] and a bias "
            f"[{num_classes}], got {found}; choose another model or method"
        )
    return Head(kernel=by_rank[2], bias=by_rank[1])


def _by_path(tree: PyTree) -> dict[Path, Any]:
    return dict(jax.tree_util.tree_leaves_with_path(tree))


def _grouped(uses: PyTree) -> list[list[Path]]:
    groups: dict[Path, list[Path]] = {}
    rank = _by_path(uses)
    for path in rank:
        groups.setdefault(path[:-1], []).append(path)
    return sorted(groups.values(), key=lambda paths: min(rank[path] for path in paths))


def _first_uses(model: Model, variables: Variables, inputs: Array) -> Variables:
    """Return for every array the rank of its first use; -1 if there is none.

    An array is used where it, or what was computed from arrays alone, meets the inputs or what
    they have become: so casting all parameters beforehand does not spoil the order.
    """
    leaves, structure = jax.tree.flatten(variables)
    trace = jax.make_jaxpr(lambda v, x: model.apply(v, x)[0])(variables, inputs)
    ranks: dict[int, int] = {}
    _follow(trace.jaxpr, [*({i} for i in range(len(leaves))), _DATA], ranks)
    return jax.tree.unflatten(structure, [ranks.get(i, -1) for i in range(len(leaves))])


# Where a value comes from: the numbers of the arrays that it was computed from, or `_DATA` if the
# inputs had a part in it.
_Origin = set[int] | None
_DATA: _Origin = None


def _follow(jaxpr: Jaxpr, origins: Sequence[_Origin], ranks: dict[int, int]) -> list[_Origin]:
    """Write first uses into `ranks`, going through `jaxpr`; return its outputs' origins."""
    known: dict[Any, _Origin] = dict(zip(jaxpr.invars, origins, strict=True))
    for equation in jaxpr.eqns:
        operands = _look_up(known, equation.invars)
        arrays = set().union(*(origin for origin in operands if origin is not _DATA))
        inner = _inner(equation)
        if inner is not None:
            results = _follow(inner, operands, ranks)
        elif _DATA in operands:
            now = len(ranks)
            ranks.update({array: now for array in arrays if array not in ranks})
            results = [_DATA] * len(equation.outvars)
        else:
            results = [arrays] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return _look_up(known, jaxpr.outvars)


def _look_up(known: Mapping[Any, _Origin], values: Sequence[Any]) -> list[_Origin]:
    """Return the origins of the values; constants come from nowhere."""
    return [set() if isinstance(value, Literal) else known.get(value, set()) for value in values]


def _inner(equation: JaxprEqn) -> Jaxpr | None:
    """Return the one function that the equation calls with just its own operands, if it does."""
    found = [value for value in equation.params.values() if isinstance(value, Jaxpr | ClosedJaxpr)]
    if len(found) != 1:
        return None
    inner = found[0].jaxpr if isinstance(found[0], ClosedJaxpr) else found[0]
    same = len(inner.invars) == len(equation.invars), len(inner.outvars) == len(equation.outvars)
    return inner if all(same) else None
