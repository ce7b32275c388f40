"""The result table of a run for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.report.content import REFERENCES, compiling, label, number, running, seconds, signed

if TYPE_CHECKING:
    from rich.table import Table


def result_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of 80 columns: one row per model, signed gaps to Retrain below the values.

    Example:
      rich.print(result_table(content.rows))
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column("model\n", no_wrap=True)
    compared = any(row["model"] == "retrain" for row in rows)
    headers = (
        *(f"{key.upper()}\n%" for key in GAP_METRICS),
        *(["gap\n% pts"] if compared else []),
        "AUC\n%",
        "RA seen\nunseen",
    )
    for header in (*headers, "time\n+ jit"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        gaps = row.get("gaps") or {}
        cells = [
            *(
                _stack(number(row.get(key)), _gap(row, gaps.get(key)) if compared else "")
                for key in GAP_METRICS
            ),
            *([number(row.get("avg_gap"))] if compared else []),
            number(row.get("auc")),
            _stack(number(row.get("ra_accessible")), number(row.get("ra_inaccessible"))),
            _stack(seconds(running(row)), compiling(row)),
        ]
        name = Text(label(row["model"]), style="" if row["model"] in REFERENCES else "bold")
        table.add_row(name, *cells)
    return table


def _gap(row: Mapping[str, Any], gap: Any) -> str:
    return "target" if row["model"] == "retrain" else signed(gap)


def _stack(value: str, below: str):
    from rich.text import Text

    return Text.assemble(value, "\n", (below, "dim"))
