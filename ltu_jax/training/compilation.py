"""`jax.jit` with the compiler options that make this library's programs fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

# XLA:CPU runs products and convolutions by YNNPACK and is faster without it, especially for small
# convolutions (`experiments.performance.benchmark --parts compiler`). An empty list disables it.
CPU_OPTIONS: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}


def jit(function: Callable, **options: Any) -> jax.stages.Wrapped:
    """Return `jax.jit(function, **options)` with `compiler_options`.

    Inside a trace there are none, since the function becomes part of the outer program. Not for use
    as a decorator of module-level functions, since it initialises the backend.
    """
    tracing = isinstance(jnp.zeros(()), Tracer)
    return jax.jit(function, compiler_options=None if tracing else compiler_options(), **options)


@cache
def compiler_options() -> dict[str, Any] | None:
    """Return the options for this backend; None if its compiler does not have them."""
    if jax.default_backend() != "cpu" or not _known(CPU_OPTIONS):
        return None
    return CPU_OPTIONS


def _known(options: dict[str, Any]) -> bool:
    """Return whether this version of XLA has these options."""
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True
