"""The section of `report.html` that `ltu audit` adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ltu_jax.report.audit import sentences
from ltu_jax.report.audit.tables import Cell, Grid, grids
from ltu_jax.report.content import ReportContent, label, seconds


def section(content: ReportContent) -> str:
    """Return the section, every value escaped; empty without an audit."""
    audit = content.audit
    if audit is None:
        return ""
    found = sentences.summary(audit, label(content.run["method"]))
    parts = (
        ("Found", [found.sentence, *sentences.tests(audit), *sentences.floors(audit)]),
        ("Direction", sentences.shifts(audit)),
        ("Unknown", sentences.missing(audit)),
    )
    items = "".join(f"<dt>{name}</dt><dd>{_paragraphs(text)}</dd>" for name, text in parts if text)
    has_bounds = any(test["bound"] for test in audit["tests"])
    return (
        '<h2 id="audit">Audit</h2>'
        f'<dl class="card summary {found.level}">{items}</dl>'
        f"{''.join(map(_table, grids(audit)))}"
        f"{_reading() if has_bounds else ''}"
        "<h3>How to repeat this audit</h3>"
        f'{_ensembles(audit["ensembles"])}<pre class="card">{escape(audit["command"])}</pre>'
    )


def level(content: ReportContent) -> str:
    """Return the level of the audit's verdict; empty without an audit."""
    if content.audit is None:
        return ""
    return sentences.summary(content.audit, label(content.run["method"])).level


def headline(content: ReportContent) -> str:
    """Return the audit's verdict for the summary at the top; empty without an audit."""
    if content.audit is None:
        return ""
    found = sentences.summary(content.audit, label(content.run["method"]))
    return (
        f'<dt>Audited</dt><dd class="{found.level}"><p class="finding">{escape(found.sentence)}</p>'
        '<p>The evidence is in <a href="#audit">the audit</a>.</p></dd>'
    )


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def _table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in grid.head)
    title = escape(grid.title)
    return (
        f'<h3>{title}</h3><p class="soft prose">{escape(grid.note)}</p>'
        f'<div class="card scroll" role="region" aria-label="{title}" tabindex="0">'
        f'<table class="results"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, grid.rows))}</tbody></table></div>"
    )


def _row(cells: Iterable[Cell]) -> str:
    name, *values = map(_cell, cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{value}</td>" for value in values)}</tr>'


def _cell(cell: Cell) -> str:
    value, below = map(escape, cell)
    return f"{value}<small>{below}</small>" if below else value


def _reading() -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences.BOUNDS)
    return f'<h3>How to read the bounds</h3><ul class="prose">{items}</ul>'


def _ensembles(ensembles: Mapping[str, Mapping[str, Any]]) -> str:
    made = "; ".join(
        f"{kind}: {ensemble['models']:,} in {seconds(ensemble['seconds'])} ({ensemble['folder']})"
        for kind, ensemble in ensembles.items()
    )
    if not ensembles:
        return ""
    if any(ensemble["seconds"] is None for ensemble in ensembles.values()):
        counts = ", ".join(f"{kind} {one['models']:,}" for kind, one in ensembles.items())
        return f'<p class="soft">Models of the ensembles, made elsewhere: {escape(counts)}.</p>'
    return (
        f'<p class="soft">Models of the ensembles: {escape(made)}. All of them, also originals, '
        "were trained by the recipe of this run; a checkpoint of yours is not among them.</p>"
    )
