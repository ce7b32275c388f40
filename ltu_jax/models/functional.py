"""Pure functions as a `types.Model`, and preprocessing as a part of one.

A `Model` is a pure `init` and a pure `apply` over plain pytrees, because the library
differentiates, maps and stacks models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ltu_jax.errors import InputError
from ltu_jax.models.modes import VALUE_IN_TRAINING, mode
from ltu_jax.models.preprocessing import normalise, pad_crop_flip
from ltu_jax.types import Array, Key, Model, Variables


def from_functions(init: Callable, apply: Callable, *, name: str) -> Model:
    """Wrap a hand-written pair of pure functions, or a pair of `haiku.transform`.

    The positional arguments of `apply` decide which pair it is:

    - `init(key, inputs) -> params`, `apply(params, inputs) -> logits`.
    - `apply(params, key, inputs) -> logits` draws random numbers from `key`.
    - `init(key, inputs) -> (params, state)`, `apply(params, state, key, inputs) -> (logits, state)`
      has a model state, which only training passes change.

    In evaluation `key` is None. `apply` may also take a mode flag of `models.modes`, such as
    `is_training`; `init` gets its value for evaluation.

    Raises:
      InputError: `apply` takes other arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> model = from_functions(
      ...     lambda key, inputs: jax.random.normal(key, (inputs.shape[-1], 3)),
      ...     lambda params, inputs: inputs @ params,
      ...     name="linear",
      ... )
      >>> model.init(jax.random.key(0), jnp.ones([1, 6])).params.shape
      (6, 3)
    """
    positional, flags = _arguments_of_apply(apply, name)
    of_init = inspect.signature(init).parameters if init is not None else ()
    init_flags = set(of_init) & VALUE_IN_TRAINING.keys()

    def init_variables(key: Key, inputs: Array) -> Variables:
        made = init(key, inputs, **mode(init_flags, False))
        if positional < 4:
            return Variables(params=made, state={})
        if not (isinstance(made, tuple) and len(made) == 2):
            problem = f"init of {name} returned a {type(made).__name__}"
            raise InputError("model", problem, "let it return the pair (params, state)")
        return Variables(*made)

    def apply_variables(variables, inputs, *, train=False, key=None):
        options = mode(flags, train)
        key = key if train else None
        if positional == 2:
            return apply(variables.params, inputs, **options), variables.state
        if positional == 3:
            return apply(variables.params, key, inputs, **options), variables.state
        logits, state = apply(variables.params, variables.state, key, inputs, **options)
        return logits, state if train else variables.state

    return Model(init_variables, apply_variables, name)


def _arguments_of_apply(apply: Callable, name: str) -> tuple[int, set[str]]:
    """Return the number of positional arguments of `apply` and its mode flags."""
    parameters = inspect.signature(apply).parameters.values()
    flags = {p.name for p in parameters if p.name in VALUE_IN_TRAINING}
    needed = [
        p
        for p in parameters
        if p.default is p.empty
        and p.name not in flags
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    # Haiku's functions end in `*args`, which hold the inputs.
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    positional = max(len(needed) + 1, 2) if rest else len(needed)
    if any(p.kind is p.KEYWORD_ONLY for p in needed) or not 2 <= positional <= 4:
        found = ", ".join(p.name for p in needed) or "nothing"
        raise InputError(
            "model",
            f"apply of {name} needs {found}",
            "let it take (params, inputs), (params, key, inputs) or (params, state, key, inputs), "
            "or give an ltu_jax.Model",
        )
    return positional, flags


def with_preprocessing(
    model: Model, *, mean: Sequence[float] | None, std: Sequence[float] | None, augment: bool
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
            augment_key, key = jax.random.split(require_key(key, model.name))
            inputs = pad_crop_flip(augment_key, inputs)
        return model.apply(variables, normalise(inputs, mean, std), train=train, key=key)

    return Model(init, apply, model.name)


def in_bfloat16(model: Model) -> Model:
    """Return `model` with passes in bfloat16 and float32 parameters, state and logits.

    Ensembles on accelerators take half the memory and are faster. Precede preprocessing:
    `with_preprocessing(in_bfloat16(model), ...)`.

    Example:
      >>> from ltu_jax.models import build
      >>> model, images = in_bfloat16(build("mlp", num_classes=10)), jnp.ones([2, 8, 8, 1])
      >>> variables = model.init(jax.random.key(0), images)
      >>> variables.params["Dense_0"]["kernel"].dtype, model.apply(variables, images)[0].dtype
      (dtype('float32'), dtype('float32'))
    """

    def cast(x: Array) -> Array:
        return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def apply(variables, inputs, *, train=False, key=None):
        low = Variables(jax.tree.map(cast, variables.params), variables.state)
        logits, state = model.apply(low, cast(jnp.asarray(inputs)), train=train, key=key)
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, variables.state)
        return logits.astype(jnp.float32), state

    return Model(model.init, apply, model.name)


def count_params(variables: Variables) -> int:
    """Return the number of trainable scalars, without model state."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


def require_key(key: Key | None, name: str) -> Key:
    """Return `key`; a training pass that draws random numbers needs one."""
    if key is None:
        raise InputError("key", f"is None, but training passes of {name} are random", "give a key")
    return key
