"""The networks that `--model` knows by name, and the door for all others."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.importing import call, import_function
from ltu_jax.models.cnn import CNN
from ltu_jax.models.functional import from_linen, from_nnx
from ltu_jax.models.mlp import MLP
from ltu_jax.models.resnet import ResNet18, ResNet20
from ltu_jax.models.vit import ViTTiny
from ltu_jax.types import Array, Key, Model, Variables

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet20": ResNet20,
    "resnet18": ResNet18,
    "vit_tiny": ViTTiny,
}


def build(name: str, num_classes: int) -> Model:
    """Return a built-in network, or what `package.module:function` makes of `num_classes`.

    That function may return a `types.Model`, a Linen module, or a function from `nnx.Rngs` to an
    NNX module. Its package is imported only when it is named.

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
        function = import_function(name, "--model")
        return call(lambda: _as_model(function(num_classes), name), flag="--model", name=name)
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


def _as_model(network: object, name: str) -> Model:
    if isinstance(network, Model):
        return network
    if isinstance(network, nn.Module):
        return from_linen(network, name=name)
    if callable(network) and not isinstance(network, nnx.Module):
        return from_nnx(network, name=name)
    raise InputError(
        f"--model {name}: returned a {type(network).__name__}; return a types.Model, a Linen "
        "module or a function from nnx.Rngs to an NNX module"
    )
