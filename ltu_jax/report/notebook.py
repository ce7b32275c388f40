"""A result in a notebook or an interpreter: its table and its verdict, as text and as HTML."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.table import Table

from ltu_jax.report.audit import sentences, tables
from ltu_jax.report.content import (
    ReportContent,
    find_row,
    label,
    measured,
    number,
    running,
    seconds,
    signed,
    timed_rows,
)
from ltu_jax.report.result_table import result_table
from ltu_jax.report.verdict import verdict
from ltu_jax.terminal import Terminal

WIDTH = 80
_COLUMNS = {"ua": "UA %", "ra": "RA %", "ta": "TA %", "mia": "MIA %", "avg_gap": "Avg. gap"}


def result_text(content: ReportContent, page: str) -> str:
    """Return the table and the verdict of a run as text; `page` is the path of its report."""
    return as_lines(
        [result_table(timed_rows(content))], [verdict(content).sentence, "", f"Report: {page}"]
    )


def result_html(content: ReportContent, page: str) -> str:
    """Return the table and the verdict of a run as HTML; see `result_text`."""
    compared = find_row(content, "retrain")
    columns = {key: name for key, name in _COLUMNS.items() if compared or key != "avg_gap"}
    head = ("Model", *columns.values(), "AUC %", "Time")
    rows = [
        (
            label(row["model"]),
            *(_with_gap(row, key) for key in columns),
            number(row.get("auc")),
            seconds(running(row)),
        )
        for row in timed_rows(content)
    ]
    return as_html(head, rows, [verdict(content).sentence, f"Report: {page}"])


def audit_text(audit: Mapping[str, Any]) -> str:
    """Return the verdict and the first table of an audit as text."""
    found = sentences.summary(audit, label(audit["method"]))
    return as_lines(tables.tables(audit)[:1], [found.sentence])


def audit_html(audit: Mapping[str, Any]) -> str:
    """Return the verdict and the first table of an audit as HTML."""
    found, grid = sentences.summary(audit, label(audit["method"])), tables.grids(audit)[0]
    rows = [[" ".join(filter(None, cell)) for cell in row] for row in grid.rows]
    head = [" ".join(filter(None, cell)) for cell in grid.head]
    return as_html(head, rows, [found.sentence])


def _with_gap(row: Mapping[str, Any], key: str) -> str:
    gap = None if row["model"] == "retrain" else (row.get("gaps") or {}).get(key)
    return number(row.get(key)) + (f" ({signed(gap)})" if measured(gap) else "")


def as_lines(tables: Sequence[Table], sentences: Sequence[str]) -> str:
    """Return tables and sentences as plain text of 80 columns."""
    text = io.StringIO()
    # Neither colours nor widgets, whatever the environment of a notebook asks for.
    terminal = Terminal(file=text, width=WIDTH, force_terminal=False, force_jupyter=False)
    for table in tables:
        terminal.show(table)
    for sentence in sentences:
        terminal.print(sentence, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def as_html(head: Sequence[str], rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> str:
    """Return one table and sentences as HTML without styles of their own; values are escaped."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(cells[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
        + "</tr>"
        for cells in rows
    )
    finding, *others = map(escape, sentences)
    text = f"<p><strong>{finding}</strong></p>" + "".join(f"<p>{other}</p>" for other in others)
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x: auto">{table}</div>{text}'
