"""Layers of any model, in the order in which the forward pass uses them.

A `Model` has no list of layers, but the arrays of one layer share a parent in the pytree, and the
forward pass can be traced. Layers are ordered by the first operation that combines their arrays
with the inputs.
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
Inputs = Array | jax.ShapeDtypeStruct


class Head(NamedTuple):
    """The paths of the output layer's kernel `[d, C]` and bias `[C]` in the parameters."""

    kernel: Path
    bias: Path


def layers(model: Model, variables: Variables, inputs: Inputs) -> list[list[Path]]:
    """Return the layers from input to output, each as the paths of its parameters.

    Arrays with the same parent in the pytree are one layer. Unused layers come first.

    Args:
      model: traced in evaluation mode, not run.
      variables: of the model, or their shapes as from `jax.eval_shape`.
      inputs: `[B, ...]`, or a `jax.ShapeDtypeStruct`.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.models import build
      >>> model, inputs = build("mlp", num_classes=10), jnp.ones([1, 64])
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
      >>> [jax.tree_util.keystr(paths[0][:-1]) for paths in layers(model, shapes, inputs)]
      ["['Dense_0']", "['Dense_1']", "['Dense_2']"]
    """
    return _grouped(_first_uses(model, variables, inputs).params)


def last_layers(model: Model, variables: Variables, inputs: Inputs, k: int) -> Variables:
    """Return booleans like `variables`, True in the last `k` layers (or all, if there are fewer).

    Only layers with an array of two or more dimensions count, as in the code of Goel et al. 2022
    (arXiv 2201.06640); a normalisation layer belongs to the layer before it. Model state belongs to
    the last layers if the pass uses it after all other layers.

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


def used_after(model: Model, variables: Variables, inputs: Inputs, chosen: PyTree) -> PyTree:
    """Return booleans like the model state, True where it is used after the first chosen array.

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


def head(model: Model, variables: Variables, inputs: Inputs, num_classes: int) -> Head:
    """Return the paths of the output layer, the last of `layers`: kernel `[d, C]`, bias `[C]`.

    Raises:
      InputError: the last layer has other arrays.
    """
    arrays = _by_path(variables.params)
    *_, last = layers(model, variables, inputs)
    by_rank = {len(arrays[path].shape): path for path in last}
    fits = all(arrays[path].shape[-1:] == (num_classes,) for path in last)
    if len(last) != 2 or set(by_rank) != {1, 2} or not fits:
        shapes = ", ".join(
            f"{jax.tree_util.keystr(path)} {list(arrays[path].shape)}" for path in last
        )
        problem = (
            f"{model.name} has {shapes} as its last layer, not a kernel [d, {num_classes}] and a "
            f"bias [{num_classes}]"
        )
        raise InputError("model", problem, "choose another `model` or `method`")
    return Head(kernel=by_rank[2], bias=by_rank[1])


def _by_path(tree: PyTree) -> dict[Path, Any]:
    return dict(jax.tree_util.tree_leaves_with_path(tree))


def _grouped(uses: PyTree) -> list[list[Path]]:
    groups: dict[Path, list[Path]] = {}
    rank = _by_path(uses)
    for path in rank:
        groups.setdefault(path[:-1], []).append(path)
    return sorted(groups.values(), key=lambda paths: min(rank[path] for path in paths))


def _first_uses(model: Model, variables: Variables, inputs: Inputs) -> Variables:
    """Return the rank of the first use of every array; -1 if it is unused.

    An array is used by the first operation that combines it, or a value computed from arrays only,
    with a value that depends on the inputs. So casting all parameters first keeps the order.
    """
    leaves, structure = jax.tree.flatten(variables)
    trace = jax.make_jaxpr(lambda v, x: model.apply(v, x)[0])(variables, inputs)
    ranks: dict[int, int] = {}
    _follow(trace.jaxpr, [*({i} for i in range(len(leaves))), _DATA], ranks)
    return jax.tree.unflatten(structure, [ranks.get(i, -1) for i in range(len(leaves))])


# Origin of a value: the numbers of the arrays that it was computed from, or `_DATA` if it depends
# on the inputs.
_Origin = set[int] | None
_DATA: _Origin = None


def _follow(jaxpr: Jaxpr, origins: Sequence[_Origin], ranks: dict[int, int]) -> list[_Origin]:
    """Record first uses in `jaxpr` in `ranks`; return the origins of its outputs."""
    known: dict[Any, _Origin] = dict(zip(jaxpr.invars, origins, strict=True))
    for equation in jaxpr.eqns:
        operands = _look_up(known, equation.invars)
        arrays = set().union(*(origin for origin in operands if origin is not None))
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
    """Return the origins of values; constants have none."""
    return [set() if isinstance(value, Literal) else known.get(value, set()) for value in values]


def _inner(equation: JaxprEqn) -> Jaxpr | None:
    """Return the only function of an equation, if it has the same operands and results."""
    inner = [value for value in equation.params.values() if isinstance(value, Jaxpr | ClosedJaxpr)]
    if len(inner) != 1:
        return None
    inner = inner[0].jaxpr if isinstance(inner[0], ClosedJaxpr) else inner[0]
    same = len(inner.invars) == len(equation.invars), len(inner.outvars) == len(equation.outvars)
    return inner if all(same) else None
