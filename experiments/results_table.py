"""The README's result tables, from the files that `experiments.first_table` wrote.

python -m experiments.results_table            # print them
python -m experiments.results_table --write    # put them into README.md
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import tyro

from ltu_jax.report.content import DASH, label, number

ROOT = Path(__file__).resolve().parent.parent
RESULTS = (ROOT / "experiments/results/digits.json", ROOT / "experiments/results/cifar10.json")
START, END = "<!-- results:start -->", "<!-- results:end -->"
COLUMNS = ("ua", "ra", "ta", "mia", "avg_gap", "auc")
HEAD = "| | UA | RA | TA | MIA | Avg. gap | AUC | seconds |\n|:--|--:|--:|--:|--:|--:|--:|--:|"
FORGOTTEN = {"random": "a random tenth forgotten", "class": "one class forgotten"}


@dataclass(frozen=True)
class Options:
    """Print the result tables as Markdown.

    Attributes:
      results: the files to read; those that are not there are left out.
      write: put the tables between the marks in the README instead of printing them.
      readme: the file with the marks.
    """

    results: tuple[Path, ...] = RESULTS
    write: bool = False
    readme: Path = ROOT / "README.md"


def main(args: list[str] | None = None) -> None:
    """Print the tables, or write them into the README."""
    options = tyro.cli(Options, args=args)
    text = tables([path for path in options.results if path.exists()])
    if options.write:
        page = options.readme.read_text(encoding="utf-8")
        options.readme.write_text(replace_block(page, text), encoding="utf-8")
    else:
        print(text)


def tables(paths: Sequence[Path]) -> str:
    """Return a heading and a table for every file and scenario, and what the numbers are."""
    parts = []
    for path in paths:
        results = json.loads(path.read_text(encoding="utf-8"))
        for scenario in dict.fromkeys(row["scenario"] for row in results["rows"]):
            rows = [row for row in results["rows"] if row["scenario"] == scenario]
            parts += [heading(results["config"], scenario, rows), table(rows)]
        parts.append(origin(results["sources"]))
    return "\n\n".join(parts)


def heading(config: dict[str, Any], scenario: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return what was trained, what was forgotten and how often, in bold."""
    size = f"{config['train_size']:,} images, " if config["train_size"] else ""
    seeds = len({row["seed"] for row in rows})
    count = "1 seed" if seeds == 1 else f"{seeds} seeds"
    return f"**{config['data']}, {size}{config['model']}: {FORGOTTEN[scenario]}, {count}**"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return one Markdown line per model: mean and 95 % interval over seeds, mean seconds."""
    lines = [HEAD]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        cells = [interval([row[key] for row in own]) for key in COLUMNS]
        if model == "retrain":
            cells[COLUMNS.index("avg_gap")] = "target"
        name = label(model) if model.startswith(("original", "retrain")) else f"**{label(model)}**"
        lines.append(f"| {name} | {' | '.join(cells)} | {_mean([r['seconds'] for r in own])} |")
    return "\n".join(lines)


def interval(values: Sequence[float | None]) -> str:
    """Return mean and half-width of the 95 % t-interval; the mean alone for a single value.

    >>> interval([1.0, 2.0, 3.0])
    '2.0 ± 2.5'
    """
    if None in values:
        return DASH
    if len(values) < 2:
        return _mean(values)
    reach = scipy.stats.t.isf(0.025, len(values) - 1) * scipy.stats.sem(values)
    return f"{_mean(values)} ± {number(reach)}"


def origin(sources: Sequence[dict[str, Any]]) -> str:
    """Return the commands, commits and devices that the numbers come from."""
    lines = []
    for source in sources:
        commit, dirty = source["git"]["commit"], source["git"]["dirty"]
        code = f"commit `{commit[:7]}`" if commit else "code outside git"
        changed = " with changes not committed" if dirty else ""
        device = source["versions"]["device"]
        lines.append(f"`{source['command']}` ({code}{changed}, {device})")
    return "Made by " + ", then ".join(lines) + "."


def replace_block(page: str, text: str) -> str:
    """Return `page` with `text` between the two marks."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"the README has no {START} followed by {END}")
    return f"{before}{START}\n{text}\n{END}{after}"


def _mean(values: Sequence[float | None]) -> str:
    return DASH if None in values else number(np.mean(values))


if __name__ == "__main__":
    main()
