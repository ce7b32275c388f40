"""The networks that `--model` knows by name, and the door for all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models.cnn import CNN
from ltu_jax.models.functional import arguments_of, from_linen, from_nnx
from ltu_jax.models.mlp import MLP
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
    """Return a built-in network, or the one that `package.module:object` stands for.

    That object may be a `types.Model`, a Linen module, a function or class that builds an NNX
    module of `rngs` (and `num_classes`, if it takes that too), or a function of `num_classes` that
    returns any of these. Its package is imported only when it is named.

    Raises:
      InputError: if there is no network of that name, or it cannot be imported or used.

    Example:
      >>> model = build("cnn", num_classes=10)
      >>> import jax
      >>> images = jax.numpy.zeros([1, 32, 32, 3])
      >>> model.apply(model.init(jax.random.key(0), images), images)[0].shape
      (1, 10)
    """
    if ":" in name:
        found = import_object(name, "--model", lambda x: callable(x) or _is_network(x), "function")
        return call(lambda: _own(found, num_classes, name), flag="--model", name=name)
    if name not in MODELS:
        raise InputError(
            f"--model {name}: there is no such model; choose one of {', '.join(MODELS)} or name "
            "your own as package.module:function"
        )
    model = from_linen(MODELS[name](num_classes=num_classes), name=name)
    return model if name == "mlp" else _over_images(model)


def _over_images(model: Model) -> Model:
    """Return `model` with a check that it is given images that its strides leave something of."""

    def init(key: Key, inputs: Array) -> Variables:
        if inputs.ndim != 4 or min(inputs.shape[1:3]) < 8:
            raise InputError(
                f"--model {model.name}: needs images [B, H, W, C] of at least 8x8 pixels, "
                f"got inputs of shape {list(inputs.shape)}; use --model mlp"
            )
        return model.init(key, inputs)

    return model._replace(init=init)


def wrap(network: Any, *, name: str | None = None) -> Model:
    """Return a network of the user's as a `Model`.

    Args:
      network: a `Model`, a Linen module, or a class or function that makes an NNX module of
        `nnx.Rngs`. A trained NNX module is none of these: it cannot be given fresh weights.
      name: what to call it; None takes the name of its class or function.

    Raises:
      InputError: it is something else.

    Example:
      >>> wrap(nn.Dense(10)).name
      'Dense'
    """
    if isinstance(network, Model):
        return network
    if isinstance(network, nn.Module):
        return from_linen(network, name=name or _name_of(type(network)))
    if callable(network) and not isinstance(network, nnx.Module):
        return from_nnx(network, name=name or _name_of(network))
    kind = type(network).__name__
    trained = isinstance(network, nnx.Module)
    raise InputError(
        f"model: a {kind} that is built already cannot be trained anew; give what builds it, as "
        f"model={kind} or model=lambda rngs: {kind}(..., rngs=rngs), and this one as params"
        if trained
        else f"model: a {kind} is no network; give a name, a Linen module, a function from "
        "nnx.Rngs to an NNX module, or a Model"
    )


def _is_network(found: Any) -> bool:
    return isinstance(found, Model | nn.Module | nnx.Module)


def _own(found: Any, num_classes: int, name: str) -> Model:
    """Return the network that an imported object is, or that it makes."""
    network = found
    if not _is_network(found):
        takes = arguments_of(found)
        if "rngs" not in takes:
            network = found(num_classes)
        elif "num_classes" in takes:

            def network(rngs: nnx.Rngs) -> nnx.Module:
                return found(num_classes=num_classes, rngs=rngs)

    if not (_is_network(network) or callable(network)) or isinstance(network, nnx.Module):
        raise InputError(
            f"--model {name}: returned a {type(network).__name__}; return a types.Model, a Linen "
            "module or a function from nnx.Rngs to an NNX module"
        )
    return wrap(network, name=name)


def _name_of(function: Callable) -> str:
    """Return what to call a network; recipes of the built-in ones are not for others."""
    name = getattr(function, "__name__", "network")
    name = "network" if name == "<lambda>" else name
    return f"own_{name}" if name in MODELS else name
