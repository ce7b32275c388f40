"""`jax.jit` with the compiler options under which this library's programs run fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

# XLA hands products and convolutions on a CPU to YNNPACK, and is faster without it, most of all on
# small convolutions (`experiments.performance.benchmark --parts compiler`). The empty list turns
# it off.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


def jit(function: Callable, **options: Any) -> jax.stages.Wrapped:
    """Return `jax.jit(function, **options)` with `compiler_options`.

    While another program is being traced there are none, since what is called then becomes part of
    that program. Not for use as a decorator of a module's functions: it asks for the backend.
    """
    tracing = isinstance(jnp.zeros(()), jax.core.Tracer)
    return jax.jit(function, compiler_options=None if tracing else compiler_options(), **options)


@cache
def compiler_options() -> Mapping[str, str] | None:
    """Return the options for this backend; none where its compiler does not know them."""
    if jax.default_backend() != "cpu" or not _known(CPU_OPTIONS):
        return None
    return CPU_OPTIONS


def _known(options: Mapping[str, str]) -> bool:
    """Whether the compiler takes these options; other versions of XLA have others."""
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True
