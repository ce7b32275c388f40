"""Flax Linen modules as a `types.Model`."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from ltu_jax.models.modes import attribute_flags, call_flags, mode
from ltu_jax.types import Array, Key, Model, PyTree, Variables


def from_linen(module: nn.Module, *, name: str) -> Model:
    """Wrap a Linen module whose `__call__` takes `(inputs)` or `(inputs, <mode flag>)`.

    The flag may be any of `models.modes`, such as `train`, `is_training` or `deterministic`, as an
    argument or as an attribute of the module. Collections other than `params` are the model state,
    which only training passes change; collections of sown values are left out. All random streams
    of a training pass (dropout and others) draw from `key`.

    Raises:
      InputError: `__call__` needs further arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> model = from_linen(nn.Dense(10), name="linear")
      >>> variables = model.init(jax.random.key(0), jnp.ones([1, 64]))
      >>> logits, state = model.apply(variables, jnp.ones([5, 64]))
      >>> logits.shape, state
      ((5, 10), {})
    """
    takes = call_flags(_called(module), f"{name}.__call__")
    attributes = attribute_flags(module) - takes

    def in_mode(train: bool) -> nn.Module:
        return module.clone(**mode(attributes, train)) if attributes else module

    def run(collections: PyTree, inputs: Array, *, train: bool, key: Key | None) -> Any:
        options = mode(takes, train)
        if not train:
            return in_mode(False).apply(collections, inputs, **options)
        # A single key seeds the stream that all named streams fall back to.
        state = [collection for collection in collections if collection != "params"]
        return in_mode(True).apply(collections, inputs, **options, rngs=key, mutable=state)

    def init(key: Key, inputs: Array) -> Variables:
        streams = {"params": key, "default": key}  # nnx.bridge.ToLinen asks for the second
        collections = dict(in_mode(False).init(streams, inputs, **mode(takes, False)))
        params = collections.pop("params", {})
        return Variables(params, _read_collections(run, params, collections, inputs))

    def apply(variables, inputs, *, train=False, key=None) -> tuple[Any, PyTree]:
        collections = {"params": variables.params, **variables.state}
        if not train:
            return run(collections, inputs, train=False, key=None), variables.state
        logits, state = run(collections, inputs, train=True, key=key)
        return logits, _of_the_same_structure(variables.state, state)

    return Model(init, apply, name)


def _called(module: nn.Module) -> Callable:
    """Return the function whose arguments a call of `module` takes."""
    if isinstance(module, nnx.bridge.ToLinen) and inspect.isclass(module.nnx_class):
        return functools.partial(module.nnx_class.__call__, None)
    return module.__call__


def _read_collections(
    run: Callable, params: PyTree, collections: dict[str, PyTree], inputs: Array
) -> dict[str, PyTree]:
    """Return the collections that the module reads, and not those that it only sows into.

    Without a collection of sown values a module runs in both modes, and evaluates the same.
    """

    def program(names: Collection[str]) -> str | None:
        def both(params, collections, key):
            given = {"params": params, **{name: collections[name] for name in names}}
            jax.eval_shape(lambda: run(given, inputs, train=True, key=key))
            return run(given, inputs, train=False, key=None)

        try:
            text = str(jax.make_jaxpr(both)(params, collections, jax.random.key(0)))
        except Exception:  # without a collection, the user's module may raise anything
            return None
        return re.sub(r"0x[0-9a-f]+", "", text)  # without addresses

    read = {name for name in collections if name != "perturbations"}  # of nn.Module.perturb
    whole = program(read) if read else None
    if whole is not None:
        read -= {name for name in read if program(read - {name}) == whole}
    return {name: value for name, value in collections.items() if name in read}


def _of_the_same_structure(state: PyTree, after: PyTree) -> PyTree:
    """Return the new values of the leaves of `state`, without what was added to it."""
    new = dict(jax.tree_util.tree_leaves_with_path(after))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: new.get(path, leaf), state)
