"""Any network as a `types.Model`: a pure `init` and a pure `apply` over plain pytrees.

Everything else in the library differentiates, maps and stacks networks, so a network may not hold
anything itself. Flax Linen, Flax NNX and hand-written functions all arrive here and leave alike.
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

# The arguments by which networks are told whether they train, and their value when they do.
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
    Collections other than `params` are the model state; only a training pass changes them. Every
    random stream of a training pass (dropout and others) draws from `key`.

    Raises:
      InputError: if `__call__` needs further arguments.

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

    def apply(variables, inputs, *, train=False, key=None):
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
    """Wrap an NNX network, given as a function from `nnx.Rngs` to a fresh module, or as its class.

    An argument of the name `rngs` is passed by name, so that it may be keyword-only.
    `nnx.Param`s are the parameters, all other variables (`nnx.BatchStat`) the model state.
    Random streams are neither: each training pass seeds them anew from `key`, so that `apply`
    stays pure. The mode is set by `module.train()` and `module.eval()`, and handed to `__call__`
    where it takes one of the flags of `from_linen`.

    Raises:
      InputError: if `build` returns no module, the module holds a bare array, its `__call__` needs
        further arguments, or a training pass of a network with random streams gets no `key`.

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
        del inputs  # an NNX module knows its input shape
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
        return logits, _plain({path: after[path] for path in state_shape})  # drops what was sown

    return Model(init, apply, name)


def nnx_variables(module: nnx.Module) -> Variables:
    """Return what a (trained) NNX module holds, in the form of a `from_nnx` model's variables.

    Random streams and intermediate values that a pass has left are no part of it.

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
      variables: for all its parameters and model state.
    """
    _, params, _, state = _split(module)
    for part, values in ((params, variables.params), (state, variables.state)):
        new = flatten_dict(values)
        for path, variable in nnx.to_flat_state(part):
            if tuple(map(str, path)) in new:  # what was sown is in no model's state
                variable[...] = new[tuple(map(str, path))]
        nnx.update(module, part)


def from_functions(
    init: Callable[[Key, Array], PyTree], apply: Callable[[PyTree, Array], jax.Array], *, name: str
) -> Model:
    """Wrap a hand-written pair `init(key, inputs) -> params`, `apply(params, inputs) -> logits`.

    Such a network has no state and is the same in training and evaluation.
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
    """Return `model` over raw inputs: uint8 images or floats, as the data set stores them.

    A training pass with `augment` first pads, crops and flips the images with a part of `key`;
    then every pass normalises with `mean` and `std` (see `data.transforms`).

    Raises:
      InputError: if an augmented training pass gets no `key`.
    """

    def init(key: Key, inputs: Array) -> Variables:
        return model.init(key, normalise(inputs, mean, std))

    def apply(variables, inputs, *, train=False, key=None):
        if train and augment:
            _require_key(key, model.name)
            augment_key, key = jax.random.split(key)
            inputs = pad_crop_flip(augment_key, inputs)
        return model.apply(variables, normalise(inputs, mean, std), train=train, key=key)

    return Model(init, apply, model.name)


def count_params(variables: Variables) -> int:
    """Return the number of trainable scalars; model state does not count."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


def arguments_of(build: Callable) -> set[str]:
    """Return the names of the arguments that a function or class takes."""
    # Of a class of Flax's, its metaclass would answer for it, and tell nothing.
    return set(inspect.signature(build.__init__ if inspect.isclass(build) else build).parameters)


def _from_rngs(build: Callable) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return `build` as a function of one positional argument."""
    return (lambda rngs: build(rngs=rngs)) if "rngs" in arguments_of(build) else build


def _split(module: nnx.Module):
    return nnx.split(module, nnx.Param, nnx.RngState, ...)


def _checked(module: Any, name: str) -> nnx.Module:
    """Return `module` if it is an NNX module all of whose arrays Flax can see under tracing."""
    if not isinstance(module, nnx.Module):
        raise InputError(
            f"model {name!r}: expected a function from nnx.Rngs to an nnx.Module, "
            f"but it returned {type(module).__name__}"
        )
    for path, part in nnx.iter_modules(module):
        for attribute, value in vars(part).items():
            if isinstance(value, jax.Array):
                where = ".".join(map(str, (*path, attribute)))
                raise InputError(
                    f"model {name!r}: {where} is a bare array; hold it in an nnx.Variable"
                )
    return module


def _optional_arguments(call: Callable, name: str, known: Mapping | Sequence[str]) -> set[str]:
    """Return which `known` arguments `call` takes besides its inputs."""
    _, *others = inspect.signature(call).parameters.values()
    named = [p for p in others if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [p.name for p in named if p.name not in known and p.default is p.empty]
    if unknown:
        raise InputError(
            f"model {name!r}: __call__ needs {', '.join(unknown)}; "
            f"it may only need its inputs and one of {', '.join(known)}"
        )
    return {p.name for p in named if p.name in known}


def _mode(takes: set[str], train: bool) -> dict[str, Any]:
    """Return the mode flags that a network `takes`, set for a training or evaluation pass."""
    return {flag: value is train for flag, value in _VALUE_IN_TRAINING.items() if flag in takes}


def _require_key(key: Key | None, name: str) -> None:
    if key is None:
        raise InputError(f"key: a training pass of model {name!r} is random; got None, pass a key")


def _flat(state: nnx.State) -> dict[tuple, Any]:
    """Return the arrays of an NNX state by their path."""
    return flatten_dict(nnx.to_pure_dict(state))


def _plain(flat: Mapping[tuple, Any]) -> PyTree:
    """Return nested dicts; list indices become strings, as checkpoints store no other keys."""
    return unflatten_dict({tuple(map(str, path)): leaf for path, leaf in flat.items()})


def _with_paths(shapes: Mapping[tuple, Any], plain: PyTree) -> PyTree:
    """Undo `_plain`, with the paths of `shapes`."""
    flat = flatten_dict(plain)
    return unflatten_dict({path: flat[tuple(map(str, path))] for path in shapes})


def _seeded(shapes: Mapping[tuple, Any], key: Key) -> dict[tuple, jax.Array]:
    """Return random streams that start anew: a key of its own for each, all counts at zero."""
    return {
        path: jax.random.split(jax.random.fold_in(key, position), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for position, (path, leaf) in enumerate(shapes.items())
    }
