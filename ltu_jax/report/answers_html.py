"""The page of `report.html` for readers who are not engineers: what was deleted, what remains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ltu_jax.report.answers import answers
from ltu_jax.report.content import DASH, ReportContent, measured, number

UNSIGNED = (
    "This page carries no signature. A signed statement, if one was made, is in the folder "
    "statements next to it and names this file by its SHA-256; `ltu ledger verify` checks it."
)


def section(content: ReportContent) -> str:
    """Return the section, every value escaped."""
    found = answers(content)
    scope, record = found["scope"], found["record"]
    items = (
        ("Guarantee", [found["guarantee"]["sentence"]]),
        ("Residual risk", [found["residual_risk"]]),
        ("Covered", scope["covered"]),
        ("Not covered", scope["not_covered"]),
        ("Who and when", [_record(record)]),
        ("Retrain instead", found["retrain"]),
        ("Signature", [UNSIGNED]),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{_list(texts)}</dd>" for name, texts in items)
    return (
        '<section class="answers" aria-labelledby="answers">'
        '<h2 id="answers">What was deleted, and what remains</h2>'
        f'<dl class="card summary">{listed}</dl>'
        "<h3>Who could attack, with what, and what was found</h3>"
        '<div class="card scroll left" role="region" aria-label="Attackers" tabindex="0">'
        f"{_table(found['attacks'])}</div></section>"
    )


def _record(record: Mapping[str, Any]) -> str:
    who = record["operator"] or "not stated (set LTU_OPERATOR before the run to name it)"
    date = str(record["date"] or "unknown").replace("T", " ").replace("Z", " UTC")
    version = record["version"] or "unknown"
    return f"Operator: {who}. Date: {date}. Version of ltu_jax: {version}. Command: see below."


def _list(texts: Sequence[str]) -> str:
    texts = [text.replace("`", "") for text in texts]
    if len(texts) == 1:
        return f"<p>{escape(texts[0])}</p>"
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _table(attacks: Sequence[Mapping[str, Any]]) -> str:
    names = ("Attack", "Who could run it", "What it needs", "Found", "Retrained", "Power")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(one["name"])}</th><td>{escape(one["who"])}</td>'
        f"<td>{escape(one['needs'])}</td><td>{_found(one)}</td><td>{_range(one['retrained'])}</td>"
        f"<td>{escape(one['power'].replace('`', ''))}</td></tr>"
        for one in attacks
    )
    return f'<table class="attackers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _found(attack: Mapping[str, Any]) -> str:
    if not measured(attack["value"]):
        return "not measured"
    interval = attack["interval"]
    below = f"<small>{_range(interval)} (95 %)</small>" if interval else ""
    return f"{number(attack['value'])} %{below}"


def _range(value: Any) -> str:
    if isinstance(value, list):
        return f"{number(value[0])} to {number(value[1])}"
    return number(value) if measured(value) else DASH
