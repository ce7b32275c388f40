"""Flax Linen modules, Flax NNX modules and functions as a `types.Model`.

A `Model` is a pure `init` and a pure `apply` over plain pytrees, because the library
differentiates, maps and stacks models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from ltu_jax.errors import InputError
from ltu_jax.models.preprocessing import normalise, pad_crop_flip
from ltu_jax.types import Array, Key, Model, PyTree, Variables

# Arguments that switch modules between training and evaluation, with their value in training.
_VALUE_IN_TRAINING = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


def from_linen(module: nn.Module, *, name: str) -> Model:
    """Wrap a Linen module whose `__call__` takes `(inputs)` or `(inputs, <mode flag>)`.

    The flag may be `train`, `training`, `is_training`, `deterministic` or `use_running_average`.
    Collections other than `params` are the model state, which only training passes change. All
    random streams of a training pass (dropout and others) draw from `key`.

    Raises:
      InputError: `__call__` needs further arguments.

    Example:
      >>> model = from_linen(nn.Dense(10), name="linear")
      >>> variables = model.init(jax.random.key(0), jnp.ones([1, 64]))
      >>> logits, state = model.apply(variables, jnp.ones([5, 64]))
      >>> logits.shape, state
      ((5, 10), {})
    """
    takes = _optional_arguments(module.__call__, name, known=_VALUE_IN_TRAINING)

    def init(key: Key, inputs: Array) -> Variables:
        collections = dict(module.init(key, inputs, **_mode(takes, train=False)))
        return Variables(params=collections.pop("params", {}), state=collections)

    def apply(variables, inputs, *, train=False, key=None) -> tuple[Any, PyTree]:
        collections = {"params": variables.params, **variables.state}
        if not train:
            return module.apply(collections, inputs, **_mode(takes, train)), variables.state
        # A single key seeds the stream that all named streams fall back to.
        logits, state = module.apply(
            collections, inputs, **_mode(takes, train), rngs=key, mutable=list(variables.state)
        )
        return logits, dict(state)

    return Model(init, apply, name)


def from_nnx(build: Callable[[nnx.Rngs], nnx.Module], *, name: str) -> Model:
    """Wrap an NNX class, or a function from `nnx.Rngs` to a new module.

    An argument `rngs` is passed by name, so it may be keyword-only. `nnx.Param`s are the
    parameters, all other variables (`nnx.BatchStat`) the model state. Random streams are neither:
    each training pass seeds them from `key`, so that `apply` stays pure. The mode is set by
    `module.train()` and `module.eval()`, and by a flag of `from_linen` if `__call__` takes one.

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
    call = nnx.merge(graph, *shapes).__call__
    takes = _optional_arguments(call, name, known=(*_VALUE_IN_TRAINING, "rngs"))
    params_shape, streams_shape, state_shape = map(_flat, shapes)

    def init(key: Key, inputs: Array) -> Variables:
        del inputs  # NNX modules have a fixed input shape
        _, params, _, state = _split(build(nnx.Rngs(key)))
        return Variables(_plain(_flat(params)), _plain(_flat(state)))

    def apply(variables, inputs, *, train=False, key=None):
        if train and (streams_shape or "rngs" in takes):
            _require_key(key, name)
        stream_key = key if train and key is not None else jax.random.key(0)  # unused in eval
        module = nnx.merge(
            graph,
            _with_paths(params_shape, variables.params),
            unflatten_dict(_seeded(streams_shape, stream_key)),
            _with_paths(state_shape, variables.state),
        )
        options = _mode(takes, train)
        if "rngs" in takes:
            options["rngs"] = nnx.Rngs(stream_key)
        if not train:
            module.eval()
            return module(inputs, **options), variables.state
        module.train()
        logits = module(inputs, **options)
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


def from_functions(
    init: Callable[[Key, Array], PyTree], apply: Callable[[PyTree, Array], jax.Array], *, name: str
) -> Model:
    """Wrap a hand-written pair `init(key, inputs) -> params`, `apply(params, inputs) -> logits`.

    Such a model has no state and is the same in training and evaluation.
    """

    def init_variables(key: Key, inputs: Array) -> Variables:
        return Variables(params=init(key, inputs), state={})

    def apply_variables(variables, inputs, *, train=False, key=None):
        del train, key
        return apply(variables.params, inputs), variables.state

    return Model(init_variables, apply_variables, name)


def with_preprocessing(
    model: Model, *, mean: Sequence[float], std: Sequence[float], augment: bool
) -> Model:
    """Return `model` over raw inputs, as the data set stores them.

    A training pass with `augment` first pads, crops and flips the images, using a part of `key`.
    Every pass normalises with `mean` and `std` (see `models.preprocessing`).

    Raises:
      InputError: an augmented training pass gets no `key`.
    """

    def init(key: Key, inputs: Array) -> Variables:
        return model.init(key, normalise(inputs, mean, std))

    def apply(variables, inputs, *, train=False, key=None):
        if train and augment:
            augment_key, key = jax.random.split(_require_key(key, model.name))
            inputs = pad_crop_flip(augment_key, inputs)
        return model.apply(variables, normalise(inputs, mean, std), train=train, key=key)

    return Model(init, apply, model.name)


def count_params(variables: Variables) -> int:
    """Return the number of trainable scalars, without model state."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


def arguments_of(build: Callable) -> set[str]:
    """Return the names of the arguments that a function or class takes."""
    # The signature of a Flax class itself is that of its metaclass.
    return set(inspect.signature(build.__init__ if inspect.isclass(build) else build).parameters)


def _from_rngs(build: Callable) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return `build` as a function of one positional argument."""
    return (lambda rngs: build(rngs=rngs)) if "rngs" in arguments_of(build) else build


def _split(module: nnx.Module):
    return nnx.split(module, nnx.Param, nnx.RngState, ...)


def _checked(module: Any, name: str) -> nnx.Module:
    """Return `module` if it is an NNX module that holds all arrays in variables."""
    if not isinstance(module, nnx.Module):
        problem = f"{name} returned a {type(module).__name__}"
        raise InputError("model", problem, "give a function from nnx.Rngs to an nnx.Module")
    for path, part in nnx.iter_modules(module):
        for attribute, value in vars(part).items():
            if isinstance(value, jax.Array):
                where = ".".join(map(str, (*path, attribute)))
                problem = f"{name} has a bare array {where}"
                raise InputError("model", problem, "hold it in an nnx.Variable")
    return module


def _optional_arguments(call: Callable, name: str, known: Mapping | Sequence[str]) -> set[str]:
    """Return the `known` arguments that `call` takes in addition to its inputs."""
    _, *others = inspect.signature(call).parameters.values()
    named = [p for p in others if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [p.name for p in named if p.name not in known and p.default is p.empty]
    if unknown:
        problem = f"{name}.__call__ needs {', '.join(unknown)}"
        remedy = f"let it need only its inputs and one of {', '.join(known)}"
        raise InputError("model", problem, remedy)
    return {p.name for p in named if p.name in known}


def _mode(takes: set[str], train: bool) -> dict[str, Any]:
    """Return the mode flags that a module `takes`, set for a training or evaluation pass."""
    return {flag: value is train for flag, value in _VALUE_IN_TRAINING.items() if flag in takes}


def _require_key(key: Key | None, name: str) -> Key:
    if key is None:
        raise InputError("key", f"is None, but training passes of {name} are random", "give a key")
    return key


def _flat(state: nnx.State) -> dict[tuple, Any]:
    """Return the arrays of an NNX state by path."""
    return flatten_dict(nnx.to_pure_dict(state))


def _plain(flat: Mapping[tuple, Any]) -> PyTree:
    """Return nested dicts; list indices become strings, since checkpoints allow no other keys."""
    return unflatten_dict({tuple(map(str, path)): leaf for path, leaf in flat.items()})


def _with_paths(shapes: Mapping[tuple, Any], plain: PyTree) -> PyTree:
    """Undo `_plain`, with the paths of `shapes`."""
    flat = flatten_dict(plain)
    return unflatten_dict({path: flat[tuple(map(str, path))] for path in shapes})


def _seeded(shapes: Mapping[tuple, Any], key: Key) -> dict[tuple, jax.Array]:
    """Return random streams with a new key for each and all counts at zero."""
    return {
        path: jax.random.split(jax.random.fold_in(key, position), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for position, (path, leaf) in enumerate(shapes.items())
    }
