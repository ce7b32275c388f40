"""Figure of forgetting against utility: each method by its distance to Retrain in both."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.report.comparison.table import REFERENCES, Summary, heading, summarise
from ltu_jax.report.drawing import is_drawable

_TICKS = (0, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 75, 100)
FORGETTING, UTILITY = ("ua", "mia"), ("ra", "ta")


def draw(results: Mapping[str, Any], scenario: str, path: Path) -> None:
    """Write the figure of a scenario as PNG; Retrain is at the lower left.

    Horizontal: absolute gap to Retrain, averaged over seeds, in UA and MIA (forgetting). Vertical:
    the same in RA and TA (utility). The line joins the methods that no other method beats in both.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = [s for s in summarise(results["rows"], scenario) if s.seeds and s.method != "retrain"]
    points = np.array([[_distance(s, FORGETTING), _distance(s, UTILITY)] for s in found])
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    methods = points[[summary.method not in REFERENCES for summary in found]]
    front = methods[front_of(methods)]
    front = front[np.argsort(front[:, 0])]
    axes.step(front[:, 0], front[:, 1], where="post", color="0.75", zorder=1)
    for number, (summary, (x, y)) in enumerate(zip(found, points, strict=True), start=1):
        reference = summary.method in REFERENCES
        color, marker = ("black", "s") if reference else ("C0", "o")
        name = f"{number}  {summary.method if is_drawable(summary.method) else ''}"
        axes.scatter(x, y, s=25, label=name, color=color, marker=marker)
        axes.annotate(str(number), (x, y), xytext=(4, 3), textcoords="offset points", size=8)
    # Square roots spread the small gaps, where the good methods are.
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_yscale("function", functions=(_root, np.square))
    for axis, values in ((axes.xaxis, points[:, 0]), (axes.yaxis, points[:, 1])):
        axis.set_ticks([tick for tick in _TICKS if tick <= 1.2 * max(values.max(), 0.5)])
    axes.set_xlim(0, 1.2 * max(points[:, 0].max(), 0.5))
    axes.set_ylim(0, 1.2 * max(points[:, 1].max(), 0.5))
    axes.set_xlabel("forgetting: distance to Retrain in UA and MIA, percentage points")
    axes.set_ylabel("utility: distance to Retrain in RA and TA, percentage points")
    title = heading(results, scenario)
    axes.set_title("\n".join(textwrap.wrap(title if is_drawable(title) else scenario, 80)), size=9)
    figure.legend(loc="outside right upper", fontsize=8, handletextpad=0.2)
    figure.savefig(path, dpi=120)


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0.0))


def front_of(points: np.ndarray) -> np.ndarray:
    """Return `[n]` booleans: the points that no other point dominates.

    >>> front_of(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0]])).tolist()
    [True, True, False]
    """
    no_worse = (points[:, None] <= points[None]).all(-1)
    better = (points[:, None] < points[None]).any(-1)
    return np.logical_not((no_worse & better).any(0))


def _distance(summary: Summary, metrics: tuple[str, ...]) -> float:
    return float(np.mean([abs(summary.values[f"gap_{name}"].mean) for name in metrics]))
