"""What a trained network follows from, as a hash: equal fingerprints mean equal networks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from ltu_jax.types import Array, Model


def fingerprint(arrays: Mapping[str, Array], settings: Mapping[str, Any], *texts: str) -> str:
    """Return the SHA-256 of arrays, of JSON-able settings and of texts, as 64 hexadecimal digits.

    JAX's version and the kind of device are part of it: both move the numbers.
    """
    content = hashlib.sha256()
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        content.update(f"{name} {array.dtype} {array.shape}".encode())
        content.update(array.data)
    for text in texts:
        content.update(text.encode())
    surroundings = {"jax": jax.__version__, "device": jax.default_backend()}
    content.update(json.dumps({**settings, **surroundings}, sort_keys=True).encode())
    return content.hexdigest()


def program(model: Model, inputs: Array) -> str:
    """Return a text of what a network computes in training, from its first weights on."""

    def forward(key: jax.Array, inputs: jax.Array):
        return model.apply(model.init(key, inputs), inputs, train=True, key=key)

    closed = jax.make_jaxpr(forward)(jax.random.key(0), jnp.asarray(inputs[:1]))
    constants = [hashlib.sha256(np.asarray(x).tobytes()).hexdigest() for x in _constants(closed)]
    return re.sub(r"0x[0-9a-f]+", "", str(closed)) + " ".join(constants)  # without addresses


def _constants(part: Any) -> Iterator[Array]:
    """Yield the arrays that a program holds, and those of the programs that it calls."""
    if isinstance(part, ClosedJaxpr):
        yield from part.consts
        part = part.jaxpr
    if isinstance(part, Jaxpr):
        part = [value for equation in part.eqns for value in equation.params.values()]
    if isinstance(part, list | tuple):  # a choice between programs has several
        for one in part:
            yield from _constants(one)
