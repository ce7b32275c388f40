"""Clocks: ways to do one thing, run in turn; all that is claimed is a ratio of what they take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

TORCH = "torch_"  # ways of PyTorch are called so, with the number of threads
PRODUCT = "large product"
Way = Callable[[], object]
Seconds = dict[str, list[float]]


def interleave(ways: Mapping[str, Way], repeats: int, shortest: float = 0.05) -> Seconds:
    """Return the seconds that each way takes, `repeats` of them, all ways in turn in every round.

    What else the machine does then falls on all of them alike. The first run of each is excluded.
    A way that is over sooner than `shortest` seconds is run several times a round, and the mean
    counts.

    Args:
      ways: each does its work and returns once that is done.
      repeats: rounds.
      shortest: seconds below which a clock says little.
    """
    counts = {}
    for name, way in ways.items():
        way()
        counts[name] = math.ceil(shortest / max(timed(way)[0], 1e-6))
    seconds: Seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(lambda: [way() for _ in range(counts[name])])[0])  # noqa: B023
            seconds[name][-1] /= counts[name]
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], one: str | None, other: str) -> float | None:
    """Return the median over rounds of one way's time over the other's; None where one is missing.

    >>> ratio({"slow": [2.0, 9.0, 4.0], "fast": [1.0, 3.0, 2.0]}, "slow", "fast")
    2.0
    """
    if one not in seconds or other not in seconds:
        return None
    return float(np.median(np.array(seconds[one]) / np.array(seconds[other])))


def ratios(
    seconds: Mapping[str, Sequence[float]], one: str | None, other: str
) -> list[float] | None:
    """Return minimum, median and maximum over rounds of one way's time over the other's.

    >>> ratios({"slow": [2.0, 9.0, 4.0], "fast": [1.0, 3.0, 2.0]}, "slow", "fast")
    [2.0, 2.0, 3.0]
    """
    if one not in seconds or other not in seconds:
        return None
    each = np.array(seconds[one]) / np.array(seconds[other])
    return [float(each.min()), float(np.median(each)), float(each.max())]


def median(seconds: Mapping[str, Sequence[float]], name: str | None) -> float | None:
    """Return the median seconds of a way; None where it is missing."""
    return float(np.median(seconds[name])) if name in seconds else None


def fastest(ways: Mapping[str, Way]) -> dict[str, Way]:
    """Return only the way that was over first, each run once before it is timed.

    On a busy machine, small steps by several threads may be a hundred times slower than by one;
    such a way is not worth being run again and again.
    """
    seconds = {}
    for name, way in ways.items():
        way()
        seconds[name] = timed(way)[0]
    return {name: ways[name] for name in sorted(ways, key=seconds.get)[:1]}


def torch_in(names: Iterable[str]) -> str | None:
    """Return the name of PyTorch's way among others; None where there is none."""
    return next((name for name in names if name.startswith(TORCH)), None)


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that one run takes, and what it returns."""
    start = time.perf_counter()
    result = way()
    return time.perf_counter() - start, result


class Compiled(NamedTuple):
    """A program compiled ahead of time.

    Attributes:
      call: the program.
      seconds: of lowering and compiling.
      flops: floating-point operations of one call by XLA's count, element-wise ones included.
      peak_bytes: of memory: arguments, results and what is needed in between.
      temporary_bytes: only what is needed in between.
    """

    call: jax.stages.Compiled
    seconds: float
    flops: float
    peak_bytes: int
    temporary_bytes: int


def compile_ahead(lower: Callable[[], jax.stages.Lowered]) -> Compiled:
    """Compile what `lower` returns, and ask XLA what it costs."""
    seconds, program = timed(lambda: lower().compile())
    memory = program.memory_analysis()
    return Compiled(
        program,
        seconds,
        float(program.cost_analysis()["flops"]),
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        memory.temp_size_in_bytes,
    )


class Product(NamedTuple):
    """A large matrix product, timed among other ways: its rate is this machine's at that time.

    Attributes:
      once: computes it and waits for it.
      flops: of one product.
    """

    once: Way
    flops: float


def large_product() -> Product:
    """Return the product of two square matrices, float32, large enough for this backend."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    square = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a).lower(square).compile()
    return Product(lambda: jax.block_until_ready(product(square)), 2.0 * size**3)


def share_of_product(seconds: Seconds, name: str, flops: float, product: Product) -> float:
    """Return the operations a second of a way over those of the large product.

    Args:
      seconds: of all ways, the product by the name of `PRODUCT`.
      name: of the way.
      flops: of one run of it.
      product: see `Product`.
    """
    return flops / product.flops * ratio(seconds, PRODUCT, name)
