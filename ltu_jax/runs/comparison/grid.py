"""The runs of a comparison: every method on every scenario and seed, each written when it is done.

A comparison is a folder. `rows/` holds one file per run, `tuning/` one per choice of options, so
that an interrupted comparison goes on where it stopped and several processes may share a folder,
say one for each scenario. `compare.json` and the tables are gathered from them at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltu_jax.runs.comparison.cell import Cell
from ltu_jax.runs.comparison.options import Comparison
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.errors import InputError
from ltu_jax.runs.networks import RETRAINED
from ltu_jax.report.content import plain
from ltu_jax.files import write_json


def run(
    comparison: Comparison,
    *,
    source: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make the runs that are missing and return everything, as `compare.json` holds it.

    Args:
      comparison: see `Comparison`.
      source: where the numbers come from: command, versions, commit.
      say: called with one line per finished run.

    Raises:
      InputError: something asked for is wrong, or the folder holds another comparison.
    """
    _check_config(comparison)
    for scenario in comparison.scenarios:
        for seed in comparison.train_seeds:
            cell = Cell(comparison, scenario, seed)
            for name, repeat in _missing(comparison, scenario, seed):
                start = time.perf_counter()
                row = cell.row(name, repeat)
                write_json(
                    row_path(comparison.out, scenario, seed, repeat, name),
                    plain({"row": row, "source": source}),
                )
                gap = row["avg_gap"]
                result = f"average gap {gap:.2f}" if gap is not None else row["failure"]
                seconds = time.perf_counter() - start
                say(f"{scenario}, seed {seed}: {name} {result} ({seconds:.0f} s)")
    return gather(comparison)


def gather(comparison: Comparison) -> dict[str, Any]:
    """Return all rows of the folder, with their sources, and write them to `compare.json`."""
    rows, sources = [], []
    for path in sorted((comparison.out / "rows").glob("*.json")):
        entry = _read(path)
        if entry["source"] not in sources:
            sources.append(entry["source"])
        rows.append({**entry["row"], "source": sources.index(entry["source"])})
    order = {name: i for i, name in enumerate(SCENARIOS)}
    rows.sort(key=lambda row: (order[row["scenario"]], row["train_seed"], row["unlearn_seed"]))
    tuning = {path.stem: _read(path) for path in sorted((comparison.out / "tuning").glob("*.json"))}
    results = {
        "config": comparison.config(),
        "seeds": sorted({row["train_seed"] for row in rows}),
        "sources": sources,
        "tuning": tuning,
        "rows": rows,
    }
    write_json(comparison.out / "compare.json", results)
    return results


def row_path(folder: Path, scenario: str, seed: int, repeat: int, method: str) -> Path:
    """Return where a comparison's folder holds a row."""
    return folder / "rows" / f"{scenario}-{seed}-{repeat}-{method}.json"


def _missing(comparison: Comparison, scenario: str, seed: int) -> Iterator[tuple[str, int]]:
    """Yield the (method, repeat) pairs that were asked for and have no row yet."""
    references = [(name, 0) for name in (*RETRAINED, "nothing")]
    runs = [(name, repeat) for name in comparison.entries for repeat in comparison.unlearn_seeds]
    for name, repeat in (*references, *runs):
        if not row_path(comparison.out, scenario, seed, repeat, name).exists():
            yield name, repeat


def _check_config(comparison: Comparison) -> None:
    """Write the settings into the folder, or stop where it holds those of another comparison."""
    path, config = comparison.out / "config.json", comparison.config()
    if not path.exists():
        for scenario in comparison.scenarios:  # bad input is found before anything is written
            _ = Cell(comparison, scenario, comparison.train_seeds[0]).plan
        write_json(path, config)
        return
    there = _read(path)
    for name in sorted(there.keys() | config.keys()):
        if there.get(name) != config.get(name):
            raise InputError(
                f"--out {comparison.out}: holds a comparison with {name} {there.get(name)}, not "
                f"{config.get(name)}; name another folder"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"--out: {path} is damaged ({error}); delete that file") from error
    if not isinstance(content, dict):
        raise InputError(f"--out: {path} is damaged (no JSON object); delete that file")
    return content
