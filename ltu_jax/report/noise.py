"""The noise floor of every gap: which distances to Retrain chance alone explains.

The floor of a metric is the larger of two numbers: the gap of the second Retrain, which differs
from the first by its seed alone, and the 95 % half-width of the difference of two rates on as many
examples. A gap within it cannot be distinguished from chance. A metric on which the original model
is within it cannot show forgetting on this request, whatever the unlearned model's gap is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.report.content import ReportContent, find_row, measured

EXAMPLES = {"ua": "forget", "ra": "retain", "ta": "test", "mia": "forget"}


class Floor(NamedTuple):
    """The noise floor of a gap, in percentage points.

    Attributes:
      second: absolute gap of the second Retrain; None without one.
      chance: 95 % half-width of the difference of two rates on this many examples.
    """

    second: float | None
    chance: float

    @property
    def value(self) -> float:
        """The larger of both."""
        return max(self.chance, self.second or 0.0)


def floors(content: ReportContent) -> dict[str, Floor]:
    """Return the floor of each metric in `GAP_METRICS` and of `avg_gap`; empty without Retrain.

    The chance part of `avg_gap` is the mean of those of the four metrics.
    """
    retrain, second = find_row(content, "retrain"), find_row(content, "retrain_2")
    if not all(measured(retrain.get(key)) for key in GAP_METRICS):
        return {}
    sizes = content.run["sizes"]
    found = {
        key: Floor(_absolute(gap_of(second, key)), half_width(retrain[key], sizes[EXAMPLES[key]]))
        for key in GAP_METRICS
    }
    mean = sum(one.chance for one in found.values()) / len(found)
    return {**found, "avg_gap": Floor(_absolute(gap_of(second, "avg_gap")), mean)}


def gap_of(row: Mapping[str, Any], key: str) -> float | None:
    """Return a row's signed gap to Retrain in a metric, or its `avg_gap`; None if unmeasured."""
    gap = row.get("avg_gap") if key == "avg_gap" else (row.get("gaps") or {}).get(key)
    return gap if measured(gap) else None


def is_noise(row: Mapping[str, Any], key: str, found: Mapping[str, Floor]) -> bool:
    """Whether chance alone explains the row's gap in a metric."""
    gap = gap_of(row, key)
    return gap is not None and key in found and abs(gap) <= found[key].value


def blind(content: ReportContent) -> list[str]:
    """Return the metrics that cannot show forgetting: the original's gap is within the floor."""
    found, original = floors(content), find_row(content, "original")
    return [key for key in found if is_noise(original, key, found)]


def half_width(percent: float, count: int) -> float:
    """Return the 95 % half-width, in percentage points, of the difference of two rates.

    A rate near 0 or 100 has almost no variance, but an effect on few examples may be absent from
    the sample: the half-width is at least 1 - 0.025^(1 / count).

    >>> print(f"{half_width(50.0, 1000):.1f} {half_width(0.0, 100):.1f}")
    4.4 3.6
    """
    rate = min(max(percent / 100, 0.0), 1.0)
    normal = 196 * math.sqrt(2 * rate * (1 - rate) / max(count, 1))
    return min(100.0, max(normal, 100 * (1 - 0.025 ** (1 / max(count, 1)))))


def _absolute(gap: float | None) -> float | None:
    return None if gap is None else abs(gap)
