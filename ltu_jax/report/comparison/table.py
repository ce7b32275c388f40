"""A comparison's rows as tables: means and 95 % intervals over training seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy

from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.report.content import DASH, number, signed

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]

LABELS = {
    "nothing": "original (nothing done)",
    "retrain": "Retrain",
    "retrain_2": "second Retrain (floor)",
    "retrain_accessible": "`retrain` on the accessible share",
}
REFERENCES = ("retrain", "retrain_2", "nothing")
COLUMNS = (
    "ua",
    "ra",
    "ra_accessible",
    "ra_inaccessible",
    "ta",
    "mia",
    "avg_gap",
    "auc",
    "ks",
    "rte",
    "seconds",
    "peak_bytes",
)
_HEAD = ("UA", "RA", "TA", "MIA", "Avg. gap", "AUC", "KS", "RA seen / unseen", "RTE", "MiB")


class Estimate(NamedTuple):
    """A mean over training seeds and the half-width of its 95 % t-interval; NaN if unknown."""

    mean: float
    reach: float

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return DASH
        return number(self.mean) + (f" ± {number(self.reach)}" if np.isfinite(self.reach) else "")


class Summary(NamedTuple):
    """A method in a scenario.

    Attributes:
      method: its name.
      scenario: its name.
      values: per name in `COLUMNS` and per `gap_ua`, ... the mean and interval.
      seeds: how many training seeds are in it.
      failed: how many runs failed; they are in no mean.
      selected_by: who chose the options.
    """

    method: str
    scenario: str
    values: Mapping[str, Estimate]
    seeds: int
    failed: int
    selected_by: str | None


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and half-width of the 95 % t-interval; NaN for what cannot be had.

    >>> str(estimate([1.0, 2.0, 3.0]))
    '2.0 ± 2.5'
    >>> str(estimate([2.0]))
    '2.0'
    """
    if not len(values):
        return Estimate(float("nan"), float("nan"))
    if len(values) < 2:
        return Estimate(float(values[0]), float("nan"))
    reach = scipy.stats.t.isf(0.025, len(values) - 1) * scipy.stats.sem(values)
    return Estimate(float(np.mean(values)), float(reach))


def summarise(rows: Sequence[Row], scenario: str) -> list[Summary]:
    """Return one summary per method: the references first, then by the mean of the gap."""
    rows = [row for row in rows if row["scenario"] == scenario]
    found = [
        _summary([row for row in rows if row["method"] == method], method, scenario)
        for method in dict.fromkeys(row["method"] for row in rows)
    ]
    return sorted(found, key=_place)


def markdown(results: Mapping[str, Any]) -> str:
    """Return a heading and a table for every scenario, as Markdown."""
    parts = []
    for scenario in scenarios(results):
        parts.append(f"**{heading(results, scenario)}**")
        lines = [f"| method | {' | '.join(_HEAD)} |", "|:--" + "|--:" * len(_HEAD) + "|"]
        for summary in summarise(results["rows"], scenario):
            lines.append(f"| {_name(summary)} | {' | '.join(_cells(summary))} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def rich_table(results: Mapping[str, Any], scenario: str) -> Table:
    """Return the table of a scenario for a terminal of 100 columns."""
    from rich import box
    from rich.table import Table

    table = Table(title=heading(results, scenario), box=box.SIMPLE_HEAD, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    for head in _HEAD:
        table.add_column(head, justify="right")
    for summary in summarise(results["rows"], scenario):
        table.add_row(_name(summary, short=True), *_cells(summary))
    return table


def write_csv(results: Mapping[str, Any], path: Path) -> None:
    """Write one line per run, with the signed gaps in columns of their own."""
    about = ("scenario", "method", "train_seed", "unlearn_seed", "selected_by")
    gaps = ("ua", "ra", "ta", "mia")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*about, *COLUMNS, *(f"gap_{name}" for name in gaps), "failure"])
        for row in results["rows"]:
            signed_gaps = [(row.get("gaps") or {}).get(name) for name in gaps]
            values = [row.get(name) for name in (*about, *COLUMNS)]
            writer.writerow([*values, *signed_gaps, row.get("failure")])


def heading(results: Mapping[str, Any], scenario: str) -> str:
    """Return what was trained, what was forgotten and how often."""
    config = results["config"]
    size = f", {config['train_size']:,} images" if config["train_size"] else ""
    seeds = len({r["train_seed"] for r in results["rows"] if r["scenario"] == scenario})
    control = {"data": ", data matched", "compute": ", compute matched"}.get(config["match"], "")
    chosen = {
        "oracle_free": "options chosen without Retrain",
        "oracle": "OPTIONS CHOSEN BY THE ORACLE (Retrain in sight)",
        "default": "default options",
    }[config["select"]]
    setting = f"{config['data']}{size}, {config['model'] or 'default model'}"
    count = "1 training seed" if seeds == 1 else f"{seeds} training seeds"
    return f"{setting}: {SCENARIOS[scenario].title} forgotten, {count}, {chosen}{control}"


def _summary(rows: Sequence[Row], method: str, scenario: str) -> Summary:
    good = [row for row in rows if not row.get("failure")]
    values = {name: _over_seeds(good, lambda row, n=name: row.get(n)) for name in COLUMNS}
    for name in ("ua", "ra", "ta", "mia"):
        values[f"gap_{name}"] = _over_seeds(good, lambda row, n=name: row["gaps"][n])
    seeds = {row["train_seed"] for row in good}
    chosen = rows[0]["selected_by"]
    return Summary(method, scenario, values, len(seeds), len(rows) - len(good), chosen)


def _over_seeds(rows: Sequence[Row], value) -> Estimate:
    """Average over the runs of a training seed, then estimate over the training seeds."""
    seeds: dict[int, list[float]] = {}
    for row in rows:
        if value(row) is not None:
            seeds.setdefault(row["train_seed"], []).append(value(row))
    return estimate([float(np.mean(values)) for values in seeds.values()])


def _place(summary: Summary) -> tuple:
    if summary.method in REFERENCES:
        return (0, REFERENCES.index(summary.method))
    gap = summary.values["avg_gap"].mean
    return (1, gap if np.isfinite(gap) else float("inf"))


def _name(summary: Summary, *, short: bool = False) -> str:
    name = summary.method if short else LABELS.get(summary.method, f"`{summary.method}`")
    if summary.selected_by == "oracle":
        name += " (oracle)"
    return name + (f" ({summary.failed} failed)" if summary.failed else "")


def _cells(summary: Summary) -> list[str]:
    def with_gap(name: str) -> str:
        if summary.method == "retrain" or not summary.seeds:
            return str(summary.values[name])
        return f"{summary.values[name]} ({signed(summary.values[f'gap_{name}'].mean)})"

    value = summary.values
    seen, unseen = (number(value[f"ra_{part}"].mean) for part in ("accessible", "inaccessible"))
    return [
        *(with_gap(name) for name in ("ua", "ra", "ta", "mia")),
        "target" if summary.method == "retrain" else str(value["avg_gap"]),
        str(value["auc"]),
        str(value["ks"]),
        f"{seen} / {unseen}",
        DASH if summary.method == "nothing" else number(value["rte"].mean, 2),
        number(value["peak_bytes"].mean / 2**20, 0),
    ]


def scenarios(results: Mapping[str, Any]) -> list[str]:
    """Return the scenarios that there are rows of, in the usual order."""
    there = {row["scenario"] for row in results["rows"]}
    return [name for name in SCENARIOS if name in there]
