"""Unlearning that changes only some of the parameters, for every method.

A method is built for a model that has the chosen parameters and no others; the frozen ones are part
of that model's state, with the BatchNorm statistics. So no gradient, weight decay, noise or
dampening reaches them, and neither gradients nor optimizer state are held for them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from ltu_jax.errors import InputError, few
from ltu_jax.models.layers import used_after
from ltu_jax.types import (
    DataSpec,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners import numbers
from ltu_jax.unlearners.base import Method

Only = str | Sequence[str] | Callable[[str], bool]


class Frozen(NamedTuple):
    """Model state of a model of the chosen parameters.

    Attributes:
      params: like the parameters; None in the place of the chosen ones.
      state: model state of the whole model.
    """

    params: PyTree
    state: PyTree


def choose(only: Only, params: PyTree) -> tuple[str, ...]:
    """Return the paths of the chosen parameters, such as `Dense_2/kernel`.

    Args:
      only: one or several patterns: a path, the path of a module, or either with the wildcards of
        file names (`*` matches slashes too). Or a function from a path to whether it is chosen.
      params: arrays or their shapes.

    Raises:
      InputError: a pattern matches nothing, all or no parameters are chosen, or the type is wrong.

    Example:
      >>> choose("head", {"head": {"kernel": 1, "bias": 2}, "body": 3})
      ('head/bias', 'head/kernel')
    """
    paths = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if callable(only):
        chosen = {path for path in paths if only(path)}
        patterns = ["a function"]
    else:
        patterns = [only] if isinstance(only, str) else _patterns(only)
        matches = {pattern: _matching(pattern, paths) for pattern in patterns}
        for pattern in patterns:
            if not matches[pattern]:
                raise InputError(
                    "only",
                    f"{pattern!r} matches none of the parameters {', '.join(paths)}",
                    f"give one of them, or a pattern such as {paths[-1].split('/')[0]!r}",
                )
        chosen = set().union(*matches.values())
    if not 0 < len(chosen) < len(paths):
        which = "all" if chosen else "none"
        raise InputError(
            "only",
            f"{few(patterns)} chooses {which} of the {len(paths)} parameters {', '.join(paths)}",
            "choose some, or leave it out",
        )
    return tuple(path for path in paths if path in chosen)


def build(
    method: Method,
    model: Model,
    spec: DataSpec,
    config: Any,
    only: tuple[str, ...] | None,
) -> Unlearner:
    """Build a method for the chosen parameters; all others stay equal to the bit.

    The invariants of the unlearner state this, and every run checks them. BatchNorm statistics
    upstream of the first chosen parameter stay too.

    Args:
      method: the method.
      model: the whole model.
      spec: sizes and types of the data.
      config: the method's options.
      only: paths from `choose`; None builds the method for all parameters.

    Raises:
      InputError: the method starts from new random weights, or does not fit the chosen parameters.
    """
    if only is None:
        return numbers.build(method, model, spec, config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    chosen = jax.tree_util.tree_map_with_path(lambda path, _: _name(path) in only, shapes.params)
    follows = used_after(model, shapes, spec.inputs, chosen)
    inner = numbers.build(method, partial_model(model, chosen, follows), spec, config)
    if inner.invariants.restarts:
        raise InputError(
            "only",
            f"{method.name} starts from new random weights, which frozen ones would not fit",
            "leave it out, or choose another method",
        )

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> PyTree:
        return inner.prepare(key, split(variables, chosen), data)

    def finish(state: PyTree) -> Variables:
        return join(inner.finish(state))

    invariants = _invariants(inner.invariants, chosen, follows)
    return inner._replace(prepare=prepare, finish=finish, invariants=invariants)


def partial_model(model: Model, chosen: PyTree, follows: PyTree) -> Model:
    """Return `model` as a model of the chosen parameters, whose model state is `Frozen`.

    Args:
      model: of all parameters.
      chosen: booleans like its parameters.
      follows: booleans like its model state: what a training pass may change.
    """

    def init(key: Key, inputs) -> Variables:
        return split(model.init(key, inputs), chosen)

    def apply(variables, inputs, *, train=False, key=None):
        whole = join(variables)
        logits, state = model.apply(whole, inputs, train=train, key=key)
        kept = jax.tree.map(
            lambda free, new, old: new if free else old, follows, state, whole.state
        )
        return logits, variables.state._replace(state=kept)

    return Model(init, apply, model.name)


def split(variables: Variables, chosen: PyTree) -> Variables:
    """Return the variables of the model of the chosen parameters."""
    some, others = (
        jax.tree.map(
            lambda choice, x, kept=kept: x if choice is kept else None, chosen, variables.params
        )
        for kept in (True, False)
    )
    return Variables(some, Frozen(others, variables.state))


def join(variables: Variables) -> Variables:
    """Return the variables of the whole model; undoes `split`."""
    frozen = variables.state
    return Variables(_join(variables.params, frozen.params), frozen.state)


def _join(some: PyTree, others: PyTree) -> PyTree:
    return jax.tree.map(
        lambda x, y: y if x is None else x, some, others, is_leaf=lambda x: x is None
    )


def _invariants(inner: Invariants, chosen: PyTree, follows: PyTree) -> Invariants:
    """Return the invariants of the whole model: the method's, and that all else is frozen."""
    free = jax.tree.map(lambda choice: True if choice else None, chosen)
    fixed = jax.tree.map(lambda choice: None if choice else False, chosen)

    def trainable_mask(state: PyTree) -> PyTree:
        return _join(free if inner.trainable_mask is None else inner.trainable_mask(state), fixed)

    preserves_model_state = inner.preserves_model_state or not any(jax.tree.leaves(follows))
    return inner._replace(
        trainable_mask=trainable_mask, preserves_model_state=preserves_model_state
    )


def _patterns(only: Any) -> list[str]:
    if not isinstance(only, list | tuple) or not all(isinstance(one, str) for one in only):
        raise InputError(
            "only",
            f"is a {type(only).__name__}",
            "give a pattern, a list of them, or a function from a path to whether it is chosen",
        )
    return list(only)


def _matching(pattern: str, paths: Sequence[str]) -> set[str]:
    return {
        path
        for path in paths
        if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")
    }


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
