"""Networks with one logit, for two classes, as the two-logit networks that this library takes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ltu_jax.errors import InputError
from ltu_jax.models.zoo import wrap
from ltu_jax.types import Model


def binary_head(network: Any) -> Model:
    r"""Return a network with one logit z per example as one with the two logits (0, z).

    The softmax of (0, z) gives class 1 the probability :math:`\sigma(z)`, and its cross-entropy is
    the binary one of z: nothing but the form changes, and trained parameters stay what they are.

    Args:
      network: what `wrap` takes; answers inputs `[B, ...]` with `[B, 1]` or `[B]`. Class 1 is
        the one that a positive logit speaks for.

    Returns:
      A model that answers with `[B, 2]`; its apply raises `InputError` where `network` has not one
      logit for each example.

    Example:
      >>> import jax, flax.linen as nn
      >>> model = binary_head(nn.Dense(1))
      >>> model.apply(model.init(jax.random.key(0), jnp.ones([5, 3])), jnp.ones([5, 3]))[0].shape
      (5, 2)
    """
    model = wrap(network)

    def apply(variables, inputs, *, train=False, key=None):
        logit, state = model.apply(variables, inputs, train=train, key=key)
        if logit.shape not in ((len(inputs),), (len(inputs), 1)):
            raise InputError(
                f"binary_head: {model.name} answers {len(inputs)} examples with logits of shape "
                f"{list(logit.shape)}; give a network with one logit for each"
            )
        logit = logit.reshape(-1, 1)
        return jnp.concatenate([jnp.zeros_like(logit), logit], axis=-1), state

    return Model(model.init, apply, model.name)
