"""How the cost of an LTU step grows with the forget set, the data and its options.

One thing grows at a time. A deletion takes as many steps whatever the size of the data, so its cost
grows as that of a step. Of the training set a step looks at a bounded number of candidates
(`ltu_jax.unlearners.ltu.sampling.CANDIDATES`), and from there on its cost must not grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.performance.steps import Prepared, prepare_step
from experiments.performance.subjects import CLASSES, noise
from experiments.performance.timing import interleave, median, ratios
from ltu_jax.models import from_linen, with_preprocessing
from ltu_jax.models.mlp import MLP
from ltu_jax.types import UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import DIVERSE, LTUConfig, Objective, ltu

ACCESSIBLE = 0.3  # of the training examples that are kept, as by default
SHAPE = (8, 8, 1)


class Work(NamedTuple):
    """What may grow.

    Attributes:
      forget: examples to forget.
      data: examples in the training set.
      queries: query sets of a step, N.
      models: membership models, K.
      width: of both hidden layers of the `mlp`.
    """

    forget: int = 1000
    data: int = 10_000
    queries: int = 3
    models: int = 2
    width: int = 128


FULL = {
    "forget": (100, 300, 1000, 3000),
    "data": (4_000, 20_000, 100_000, 500_000),
    "queries": (1, 3, 6, 12),
    "models": (2, 4, 6, 12),
    "width": (64, 128, 256, 512),
}
QUICK = {
    "forget": (100, 1000),
    "data": (4_000, 10_000),
    "queries": (1, 3),
    "models": (2, 4),
    "width": (64, 128),
}
TITLES = {
    "forget": "examples to forget",
    "data": "training examples",
    "queries": "query sets",
    "models": "membership models",
    "width": "width of the mlp",
}


def growth(axes: Mapping[str, Sequence[int]], repeats: int) -> dict[str, Any]:
    """Return the cost of a step along each axis, all else as in `Work`.

    Args:
      axes: by the name of an attribute of `Work`, the values that it takes, in ascending order.
      repeats: rounds in which all points of an axis are timed.
    """
    return {name: _axis(name, points, repeats) for name, points in axes.items()}


def _axis(name: str, points: Sequence[int], repeats: int) -> dict[str, Any]:
    steps = {str(point): ltu_on(Work()._replace(**{name: point})) for point in points}
    seconds = interleave({point: step.once for point, step in steps.items()}, repeats)
    return {
        point: {
            "step_seconds": median(seconds, point),
            "over_first": ratios(seconds, point, str(points[0])),
            "flops_by_xla": step.compiled.flops,
            "peak_bytes": step.compiled.peak_bytes,
            "temporary_bytes": step.compiled.temporary_bytes,
        }
        for point, step in steps.items()
    }


@lru_cache  # all axes go through the same point
def ltu_on(work: Work) -> Prepared:
    """Return LTU's step on an `mlp` and noise, compiled."""
    retain = round(ACCESSIBLE * (work.data - work.forget))
    data = UnlearnData(
        *(noise(size, SHAPE, seed) for seed, size in enumerate((work.forget, retain, 500)))
    )
    network = MLP(CLASSES, widths=(work.width, work.width))
    model = with_preprocessing(
        from_linen(network, name="mlp"), mean=(0.5,), std=(0.25,), augment=False
    )
    default = LTUConfig()
    kinds = default.query_sampling
    config = replace(
        default,
        query_sampling=tuple(kinds[i % len(kinds)] for i in range(work.queries)),
        objective=Objective(
            specs=tuple(DIVERSE[i % len(DIVERSE)] for i in range(work.models)),
            support=work.models // 2,
        ),
    )
    variables = jax.jit(model.init)(jax.random.key(0), data.forget.inputs[:1])
    return prepare_step(ltu(model, spec_of(data, CLASSES), config), variables, data)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw time and memory, both over those of the axis's first point."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(results), figsize=(3 * len(results), 2.8), sharey=True)
    for panel, (name, rows) in zip(panels, results.items(), strict=True):
        first = next(iter(rows.values()))
        points = [int(point) for point in rows]
        panel.plot(points, [row["over_first"][1] for row in rows.values()], "o-", label="time")
        panel.plot(
            points,
            [row["peak_bytes"] / first["peak_bytes"] for row in rows.values()],
            "s--",
            label="peak memory, data included",
        )
        panel.set(xscale="log", yscale="log", xlabel=TITLES[name])
        panel.set_xticks(points, [f"{point:,}" for point in points], fontsize="x-small")
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("over the first point")
    panels[0].legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
