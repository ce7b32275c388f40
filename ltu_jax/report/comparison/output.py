"""Files of a comparison: tables as Markdown and CSV, and a figure per scenario."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltu_jax.report.comparison import pareto, table
from ltu_jax.report.drawing import drawn

if TYPE_CHECKING:
    from rich.table import Table


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write `table.md`, `table.csv` and one `pareto_<scenario>.png` per scenario."""
    (folder / "table.md").write_text(table.markdown(results), encoding="utf-8")
    table.write_csv(results, folder / "table.csv")
    for scenario in table.scenarios(results):
        path = folder / f"pareto_{scenario}.png"
        drawn(partial(pareto.draw, results, scenario, path), path.name)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Return one table per scenario for the terminal."""
    return [table.rich_table(results, scenario) for scenario in table.scenarios(results)]
