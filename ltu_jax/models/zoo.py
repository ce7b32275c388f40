"""Built-in models by name, and models of the user."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models.cnn import CNN
from ltu_jax.models.flax_linen import from_linen
from ltu_jax.models.flax_nnx import from_nnx
from ltu_jax.models.mlp import MLP
from ltu_jax.models.modes import arguments_of
from ltu_jax.models.resnet import ResNet18, ResNet20
from ltu_jax.models.vit import ViTTiny
from ltu_jax.plugins import call, import_object
from ltu_jax.types import Array, Key, Model, Variables

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet20": ResNet20,
    "resnet18": ResNet18,
    "vit_tiny": ViTTiny,
}


def build(name: str, num_classes: int) -> Model:
    """Return a built-in model by name, or the model of `package.module:object`.

    That object may be a `types.Model`, a Linen module, a function or class that builds an NNX
    module from `rngs` (and `num_classes`, if it takes that too), or a function of `num_classes`
    that returns one of these.

    Raises:
      InputError: the model does not exist, or it cannot be imported or used.

    Example:
      >>> model = build("cnn", num_classes=10)
      >>> import jax
      >>> images = jax.numpy.zeros([1, 32, 32, 3])
      >>> model.apply(model.init(jax.random.key(0), images), images)[0].shape
      (1, 10)
    """
    if ":" in name:
        imported = import_object(name, "model", lambda x: callable(x) or _is_module(x), "function")
        return call(lambda: _own(imported, num_classes, name), argument="model", name=name)
    if name not in MODELS:
        remedy = f"choose one of {', '.join(MODELS)}, or name your own as package.module:function"
        raise InputError("model", f"{name} is not a built-in model", remedy)
    model = from_linen(MODELS[name](num_classes=num_classes), name=name)
    return model if name == "mlp" else _check_images(model)


def _check_images(model: Model) -> Model:
    """Return `model` with a check that inputs are images that its strides do not make empty."""

    def init(key: Key, inputs: Array) -> Variables:
        if inputs.ndim != 4 or min(inputs.shape[1:3]) < 8:
            problem = f"{model.name} needs images [B, H, W, C] of at least 8x8 pixels"
            raise InputError("model", f"{problem}, not {list(inputs.shape)}", "use mlp")
        return model.init(key, inputs)

    return model._replace(init=init)


def wrap(module: Any, *, name: str | None = None) -> Model:
    """Return a model of the user as a `types.Model`.

    Args:
      module: a `Model`, a Linen module or class, or a class or function (also as a
        `functools.partial`) that makes an NNX module from `nnx.Rngs`. An NNX module itself is not
        accepted, since it cannot be reinitialised.
      name: name of the model. Default: that of its class or function.

    Raises:
      InputError: `module` is something else.

    Example:
      >>> wrap(nn.Dense(10)).name
      'Dense'
    """
    if isinstance(module, Model):
        return module
    name = name or _name_of(module)
    if _makes_linen(module):
        module = _linen_instance(module, name)
    if isinstance(module, nn.Module):
        return from_linen(module, name=name)
    if isinstance(module, nnx.Module):
        raise InputError(
            "model",
            f"is a {name} that exists already and cannot be retrained from scratch",
            f"give model={name} or model=lambda rngs: {name}(..., rngs=rngs), and this one as "
            "`params`",
        )
    if callable(module) and not holds_arrays(module):
        return from_nnx(cast(Callable[..., nnx.Module], module), name=name)
    raise InputError(
        "model",
        f"is a {name}" + (" with arrays in it" if callable(module) else ""),
        "give a name, a Linen module, a function from nnx.Rngs to an NNX module, or two functions "
        "by ltu_jax.models.from_functions",
    )


def _is_module(value: Any) -> bool:
    return isinstance(value, Model | nn.Module | nnx.Module)


def holds_arrays(value: Any) -> bool:
    """Whether a callable is a pytree of arrays, as the modules of Equinox are."""
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value))


def _makes_linen(value: Any) -> bool:
    """Whether a value is a Linen class, or a `functools.partial` of one."""
    while isinstance(value, functools.partial):
        value = value.func
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _linen_instance(build: Callable[..., nn.Module], name: str) -> nn.Module:
    try:
        return build()
    except TypeError as error:
        problem = f"is the class {name}, which needs arguments ({error})"
        raise InputError("model", problem, f"give an instance {name}(...)") from error


def _own(imported: Any, num_classes: int, name: str) -> Model:
    """Return the model that an imported object is or makes."""
    module = imported
    if not _is_module(imported):
        takes = arguments_of(imported)
        if "num_classes" in takes:
            module = functools.partial(imported, num_classes=num_classes)
            module = module if "rngs" in takes else module()
        elif "rngs" not in takes and not _makes_linen(imported):
            module = imported(num_classes) if takes else imported()
    if not (_is_module(module) or callable(module)) or isinstance(module, nnx.Module):
        remedy = "return a types.Model, a Linen module or a function from nnx.Rngs to an NNX module"
        raise InputError("model", f"{name} returned a {type(module).__name__}", remedy)
    return wrap(module, name=name)


def _name_of(module: Any) -> str:
    """Return a name that is not that of a built-in model, whose recipe would not fit."""
    while isinstance(module, functools.partial):
        module = module.func
    name = getattr(module, "__name__", None) or type(module).__name__
    name = "network" if name in ("<lambda>", "function") else name
    return f"own_{name}" if name in MODELS else name
