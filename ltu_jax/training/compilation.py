"""`jax.jit` with the compiler options that make this library's programs fastest, and a clock.

The clock sums the time in which JAX traces, lowers and compiles, by JAX's own events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

# XLA:CPU runs products and convolutions by YNNPACK and is faster without it, especially for small
# convolutions (`experiments.performance.benchmark --parts compiler`). An empty list disables it.
CPU_OPTIONS: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}
# Of programs that do little: LLVM's further passes take longer than they save.
SMALL_OPTIONS: dict[str, Any] = CPU_OPTIONS | {"xla_backend_optimization_level": 1}


@contextmanager
def relaxed() -> Iterator[None]:
    """Allow what the library's programs use, whatever JAX's strict settings of the process.

    They add axes implicitly and mask with infinities. `jax_debug_nans` and all others stay.
    """
    with jax.numpy_rank_promotion("allow"), jax.debug_infs(False):
        yield


def jit(function: Callable, *, small: bool = False, **options: Any) -> jax.stages.Wrapped:
    """Return `jax.jit(function, **options)` with `compiler_options`.

    `small` is for programs that do little and should compile fast. Inside a trace there are none,
    since the function becomes part of the outer program. Not for use as a decorator of module-level
    functions, since it initialises the backend.
    """
    tracing = isinstance(jnp.zeros(()), Tracer)
    return jax.jit(
        function, compiler_options=None if tracing else compiler_options(small), **options
    )


@cache
def compiler_options(small: bool = False) -> dict[str, Any] | None:
    """Return the options for this backend; None if its compiler does not have them."""
    options = SMALL_OPTIONS if small else CPU_OPTIONS
    return options if jax.default_backend() == "cpu" and _known(options) else None


class CompileClock:
    """Time in seconds that JAX spent on compilation while `compile_clock` was open."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def add(self, seconds: float) -> None:
        """Add an event that ends now; events inside it, such as nested traces, are part of it."""
        now = time.perf_counter()
        start = now - seconds
        while self._spans and self._spans[-1][0] >= start:
            self._spans.pop()
        self._spans.append((max(start, self._spans[-1][1]) if self._spans else start, now))

    @property
    def seconds(self) -> float:
        """The length of all events together."""
        return sum(end - start for start, end in self._spans)


_clocks: list[CompileClock] = []


@contextmanager
def compile_clock() -> Iterator[CompileClock]:
    """Measure the time of compilation inside the block.

    >>> with compile_clock() as clock:
    ...     _ = jax.jit(lambda x: x + 1)(1.0)
    >>> clock.seconds > 0
    True
    """
    _listen()
    clock = CompileClock()
    _clocks.append(clock)
    try:
        yield clock
    finally:
        _clocks.remove(clock)


@cache
def _listen() -> None:
    """Register one listener for the process; JAX keeps it for good."""

    def on_event(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            for clock in _clocks:
                clock.add(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(on_event)


def _known(options: dict[str, Any]) -> bool:
    """Return whether this version of XLA has these options."""
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True
