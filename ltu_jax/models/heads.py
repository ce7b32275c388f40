"""Binary classifiers with one logit, as models with two logits."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ltu_jax.errors import InputError
from ltu_jax.models.zoo import wrap
from ltu_jax.types import Model


def binary_head(module: Any) -> Model:
    r"""Return a model with one logit z per example as one with the two logits (0, z).

    The softmax of (0, z) gives class 1 the probability :math:`\sigma(z)`, and its cross-entropy is
    the binary cross-entropy of z. Trained parameters do not change.

    Args:
      module: as for `wrap`; its outputs are `[B, 1]` or `[B]`, positive for class 1.

    Returns:
      A model with logits `[B, 2]`; `apply` raises `InputError` for other output shapes.

    Example:
      >>> import jax, flax.linen as nn
      >>> model = binary_head(nn.Dense(1))
      >>> model.apply(model.init(jax.random.key(0), jnp.ones([5, 3])), jnp.ones([5, 3]))[0].shape
      (5, 2)
    """
    model = wrap(module)

    def apply(variables, inputs, *, train=False, key=None):
        logit, state = model.apply(variables, inputs, train=train, key=key)
        if logit.shape not in ((len(inputs),), (len(inputs), 1)):
            problem = f"{model.name} has logits {list(logit.shape)} for {len(inputs)} examples"
            raise InputError("model", problem, "give a model with one logit per example")
        logit = logit.reshape(-1, 1)
        return jnp.concatenate([jnp.zeros_like(logit), logit], axis=-1), state

    return Model(model.init, apply, model.name)
