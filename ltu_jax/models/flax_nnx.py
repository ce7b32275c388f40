"""Flax NNX modules as a `types.Model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import DenyList
from flax.traverse_util import flatten_dict, unflatten_dict

from ltu_jax.errors import InputError
from ltu_jax.models.functional import require_key
from ltu_jax.models.modes import arguments_of, attribute_flags, call_flags, mode
from ltu_jax.models.training_pass import note_dropout
from ltu_jax.types import Array, Key, Model, PyTree, Variables


def from_nnx(build: Callable[[nnx.Rngs], nnx.Module], *, name: str) -> Model:
    """Wrap an NNX class, or a function from `nnx.Rngs` to a new module.

    An argument `rngs` is passed by name, so it may be keyword-only. `nnx.Param`s are the
    parameters, all other variables (`nnx.BatchStat`) the model state. Random streams are neither:
    each training pass seeds them from `key`, so that `apply` stays pure. The mode is set by
    `module.train()` and `module.eval()`, and by flags as for `from_linen`. A random key that is not
    a random stream is held in the state as its key data.

    Raises:
      InputError: `build` does not return a module, the module holds a bare array, its `__call__`
        needs further arguments, or a training pass with random streams gets no `key`.

    Example:
      >>> model = from_nnx(lambda rngs: nnx.Linear(64, 10, rngs=rngs), name="linear")
      >>> sorted(model.init(jax.random.key(0), jnp.ones([1, 64])).params)
      ['bias', 'kernel']
    """
    build = _from_rngs(build)
    graph, *shapes = jax.eval_shape(lambda: _split(_checked(build(nnx.Rngs(0)), name)))
    takes = call_flags(_called(nnx.merge(graph, *shapes)), f"{name}.__call__", others=("rngs",))
    params_shape, streams_shape, state_shape = map(_flat, shapes)

    def init(key: Key, inputs: Array) -> Variables:
        del inputs  # NNX modules have a fixed input shape
        _, params, _, state = _split(build(nnx.Rngs(key)))
        return Variables(_plain(_flat(params)), _plain(_flat(state)))

    def apply(variables, inputs, *, train=False, key=None):
        if train and (streams_shape or "rngs" in takes):
            require_key(key, name)
        stream_key = key if train and key is not None else jax.random.key(0)  # unused in eval
        module = nnx.merge(
            graph,
            _with_paths(params_shape, variables.params),
            unflatten_dict(_seeded(streams_shape, stream_key)),
            _with_paths(state_shape, variables.state),
        )
        options: dict[str, Any] = {**mode(takes, train)}
        if "rngs" in takes:
            options["rngs"] = nnx.Rngs(stream_key)
        if train and isinstance(module, nnx.bridge.ToNNX):
            options["mutable"] = DenyList("params")
        _set_mode(module, train)
        note_dropout(module)
        logits = module(inputs, **options)
        if not train:
            return logits, variables.state
        *_, state = _split(module)
        after = _flat(state)
        return logits, _plain({path: after[path] for path in state_shape})  # without sown values

    return Model(init, apply, name)


def nnx_variables(module: nnx.Module) -> Variables:
    """Return the variables of an NNX module in the form of a `from_nnx` model's.

    Random streams and intermediate values of an earlier pass are left out.

    Example:
      >>> variables = nnx_variables(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
      >>> variables.params["kernel"].shape, variables.state
      ((2, 3), {})
    """
    _, params, _, _, state = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    return Variables(_plain(_flat(params)), _plain(_flat(state)))


def nnx_state(module: nnx.Module | nnx.State) -> PyTree:
    """Return all variables of an NNX module, or of its state, as nested dicts of arrays."""
    if isinstance(module, nnx.Module):
        _, _, module = nnx.split(module, nnx.Intermediate, ...)
    return _plain(_flat(module))


def update_nnx(module: nnx.Module, variables: Variables) -> None:
    """Write variables of a `from_nnx` model, such as `Result.unlearned`, into an NNX module.

    Args:
      module: of the same architecture; changed in place.
      variables: new values of all its parameters and model state.
    """
    _, params, _, state = _split(module)
    for part, values in ((params, variables.params), (state, variables.state)):
        new = flatten_dict(values)
        for path, variable in nnx.to_flat_state(part):
            if tuple(map(str, path)) in new:  # sown values are not in the state
                variable[...] = new[tuple(map(str, path))]
        nnx.update(module, part)


def _from_rngs(build: Callable) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return `build` as a function of one positional argument."""
    arguments = arguments_of(build)
    only_named = not any(p.kind is not p.VAR_KEYWORD for p in arguments.values())
    by_name = "rngs" in arguments or (arguments and only_named)
    return (lambda rngs: build(rngs=rngs)) if by_name else build


def _called(module: nnx.Module) -> Callable:
    """Return the function whose arguments a call of `module` takes."""
    inner = module.to_nnx__module if isinstance(module, nnx.bridge.ToNNX) else module
    return inner.__call__


def _set_mode(module: nnx.Module, train: bool) -> None:
    for change in ("train", "eval"):
        if change == ("train" if train else "eval") and callable(getattr(module, change)):
            getattr(module, change)()
    for _, part in nnx.iter_modules(module):
        for flag, value in mode(attribute_flags(part), train).items():
            setattr(part, flag, value)


def _split(module: nnx.Module):
    return nnx.split(module, nnx.Param, nnx.RngState, ...)


def _checked(module: Any, name: str) -> nnx.Module:
    """Return `module` if it is an NNX module that holds all arrays in variables."""
    if not isinstance(module, nnx.Module):
        problem = f"{name} returned a {type(module).__name__}"
        raise InputError("model", problem, "give a function from nnx.Rngs to an nnx.Module")
    parts = [*nnx.iter_modules(module)]
    if any(
        isinstance(part, nnx.bridge.ToNNX) and not nnx.state(part, nnx.Param) for _, part in parts
    ):
        problem = f"{name} has a Linen module without parameters in nnx.bridge.ToNNX"
        raise InputError("model", problem, "call its lazy_init with an input in your function")
    for path, part in parts:
        for attribute, value in vars(part).items():
            if isinstance(value, jax.Array):
                where = ".".join(map(str, (*path, attribute)))
                problem = f"{name} has a bare array {where}"
                raise InputError("model", problem, "hold it in an nnx.Variable")
    return module


def _flat(state: nnx.State) -> dict[tuple, Any]:
    """Return the arrays of an NNX state by path."""
    return flatten_dict(nnx.to_pure_dict(state))


def _plain(flat: Mapping[tuple, Any]) -> PyTree:
    """Return nested dicts; list indices become strings, since checkpoints allow no other keys."""
    return unflatten_dict({tuple(map(str, path)): _key_data(leaf) for path, leaf in flat.items()})


def _with_paths(shapes: Mapping[tuple, Any], plain: PyTree) -> PyTree:
    """Undo `_plain`, with the paths and types of `shapes`."""
    flat: dict[tuple, Any] = flatten_dict(plain)
    return unflatten_dict(
        {
            path: jax.random.wrap_key_data(leaf, impl=shape.dtype._impl) if _is_key(shape) else leaf
            for path, shape in shapes.items()
            for leaf in [flat[tuple(map(str, path))]]
        }
    )


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _seeded(shapes: Mapping[tuple, Any], key: Key) -> dict[tuple, jax.Array]:
    """Return random streams with a new key for each and all counts at zero."""
    return {
        path: jax.random.split(jax.random.fold_in(key, position), leaf.shape)
        if _is_key(leaf)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for position, (path, leaf) in enumerate(shapes.items())
    }
