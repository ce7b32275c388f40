"""Results of a comparison as tables: means and 95 % intervals over training seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.stats

from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.report.content import DASH, number, signed

if TYPE_CHECKING:
    from rich.table import Table

Result = Mapping[str, Any]

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


class Interval(NamedTuple):
    """A mean and its confidence interval; infinite for one value, NaN for none."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return DASH
        reach = self.high - self.mean
        return number(self.mean) + (f" ± {number(reach)}" if np.isfinite(reach) else "")


class Summary(NamedTuple):
    """Results of a method in a scenario.

    Attributes:
      method: model label.
      scenario: name of the scenario.
      values: mean and interval of each metric in `COLUMNS` and each gap (`gap_ua`, ...).
      seeds: number of training seeds.
      failed: number of failed runs, which no mean includes.
      selected_by: how the options were chosen.
    """

    method: str
    scenario: str
    values: Mapping[str, Interval]
    seeds: int
    failed: int
    selected_by: str | None


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of some values and its t-interval.

    >>> str(interval([1.0, 2.0, 3.0]))
    '2.0 ± 2.5'
    >>> str(interval([2.0]))
    '2.0'
    """
    sample = np.asarray(values, float)
    if not len(sample):
        return Interval(np.nan, np.nan, np.nan)
    half = np.inf
    if len(sample) > 1:
        quantile = scipy.stats.t.ppf((1 + level) / 2, len(sample) - 1)
        half = quantile * sample.std(ddof=1) / np.sqrt(len(sample))
    mean = float(sample.mean())
    return Interval(mean, float(mean - half), float(mean + half))


def summarise(rows: Sequence[Result], scenario: str) -> list[Summary]:
    """Return one summary per method: the references first, then by the mean gap."""
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
            lines.append(f"| {_name(summary)} | {' | '.join(_columns(summary))} |")
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
        table.add_row(_name(summary, short=True), *_columns(summary))
    return table


def write_csv(results: Mapping[str, Any], path: Path) -> None:
    """Write one line per run, with the signed gaps in separate columns."""
    about = ("scenario", "method", "train_seed", "unlearn_seed", "selected_by")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*about, *COLUMNS, *(f"gap_{name}" for name in GAP_METRICS), "failure"])
        for row in results["rows"]:
            signed_gaps = [(row.get("gaps") or {}).get(name) for name in GAP_METRICS]
            values = [row.get(name) for name in (*about, *COLUMNS)]
            writer.writerow([*values, *signed_gaps, row.get("failure")])


def heading(results: Mapping[str, Any], scenario: str) -> str:
    """Return the title of a scenario: data, model, forget set, seeds, and choice of options."""
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
    setting += ", given checkpoint" if config.get("checkpoint") else ""
    count = "1 training seed" if seeds == 1 else f"{seeds} training seeds"
    return f"{setting}: {SCENARIOS[scenario].title} forgotten, {count}, {chosen}{control}"


def _summary(rows: Sequence[Result], method: str, scenario: str) -> Summary:
    good = [row for row in rows if not row.get("failure")]
    values = {name: _over_seeds(good, lambda row, n=name: row.get(n)) for name in COLUMNS}
    for name in GAP_METRICS:
        values[f"gap_{name}"] = _over_seeds(good, lambda row, n=name: row["gaps"][n])
    seeds = {row["train_seed"] for row in good}
    chosen = rows[0]["selected_by"]
    return Summary(method, scenario, values, len(seeds), len(rows) - len(good), chosen)


def _over_seeds(rows: Sequence[Result], value) -> Interval:
    """Return the interval over training seeds of the mean over each seed's runs."""
    seeds: dict[int, list[float]] = {}
    for row in rows:
        if value(row) is not None:
            seeds.setdefault(row["train_seed"], []).append(value(row))
    return interval([float(np.mean(values)) for values in seeds.values()])


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


def _columns(summary: Summary) -> list[str]:
    def with_gap(name: str) -> str:
        if summary.method == "retrain" or not summary.seeds:
            return str(summary.values[name])
        return f"{summary.values[name]} ({signed(summary.values[f'gap_{name}'].mean)})"

    value = summary.values
    seen, unseen = (number(value[f"ra_{part}"].mean) for part in ("accessible", "inaccessible"))
    return [
        *(with_gap(name) for name in GAP_METRICS),
        "target" if summary.method == "retrain" else str(value["avg_gap"]),
        str(value["auc"]),
        str(value["ks"]),
        f"{seen} / {unseen}",
        DASH if summary.method == "nothing" else number(value["rte"].mean, 2),
        number(value["peak_bytes"].mean / 2**20, 0),
    ]


def scenarios(results: Mapping[str, Any]) -> list[str]:
    """Return the scenarios that have results, in the usual order."""
    present = {row["scenario"] for row in results["rows"]}
    return [name for name in SCENARIOS if name in present]
