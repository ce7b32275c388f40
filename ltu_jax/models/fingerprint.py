"""Fingerprints of trained models: equal fingerprints mean equal inputs of a training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from ltu_jax.files import array_digest, json_digest
from ltu_jax.types import Array, Model


def fingerprint(arrays: Mapping[str, Array], settings: Mapping[str, Any], *texts: str) -> str:
    """Return the SHA-256 of arrays, JSON settings and texts, as 64 hexadecimal digits.

    It covers JAX's version and the backend as well, since both change results.
    """
    backend = {"jax": jax.__version__, "device": jax.default_backend()}
    return json_digest([array_digest(arrays), settings, texts, backend])


def program(model: Model, inputs: Array) -> str:
    """Return a text of the computation of a model in training, initialisation included."""

    def forward(key: jax.Array, inputs: jax.Array):
        return model.apply(model.init(key, inputs), inputs, train=True, key=key)

    closed = jax.make_jaxpr(forward)(jax.random.key(0), jnp.asarray(inputs[:1]))
    constants = [array_digest({"": constant}) for constant in _constants(closed)]
    return re.sub(r"0x[0-9a-f]+", "", str(closed)) + " ".join(constants)  # without addresses


def _constants(part: Any) -> Iterator[Array]:
    """Yield the constant arrays of a program and of the programs that it calls."""
    if isinstance(part, ClosedJaxpr):
        yield from part.consts
        part = part.jaxpr
    if isinstance(part, Jaxpr):
        part = [value for equation in part.eqns for value in equation.params.values()]
    if isinstance(part, list | tuple):  # branches of a conditional
        for one in part:
            yield from _constants(one)
