"""Results as Markdown: a table for every part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = {
    "ltu_step": (
        "step_seconds",
        "compile_seconds",
        "ratio_to_plain",
        "count_ratio",
        "ratio_to_count",
        "torch_over_jax",
        "share_of_matmul_rate",
        "flops_by_xla",
        "flops_by_hand",
        "peak_bytes",
    ),
    "sgd_step": (
        "batch",
        "step_seconds",
        "compile_seconds",
        "torch_over_jax",
        "share_of_matmul_rate",
        "flops_by_xla",
        "flops_by_hand",
        "peak_bytes",
    ),
}


def tables(results: Mapping[str, Any]) -> str:
    """Return all parts that are there, each under its name.

    A part of rows becomes a table, with the columns of `COLUMNS` or all of its plain values.
    First order is a row of its own.
    """
    texts = []
    for part, rows in results.items():
        if part in ("config", "source"):
            continue
        texts.append(f"## {part}\n\n{_part(part, rows)}")
    return "\n\n".join(texts)


def _part(part: str, content: Any) -> str:
    if not isinstance(content, Mapping):
        return shown(content)
    rows = dict(_rows(content))
    plain = {name: value for name, value in content.items() if not isinstance(value, Mapping)}
    lines = [f"- {name}: {shown(value)}" for name, value in plain.items()]
    if rows:
        columns = COLUMNS.get(part) or tuple(
            dict.fromkeys(
                name for row in rows.values() for name, value in row.items() if _is_cell(value)
            )
        )
        lines += [*([""] if lines else []), *table(rows, columns)]
    return "\n".join(lines)


def _rows(content: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield rows by name; those of a group follow each other, under its name and theirs."""
    for name, row in content.items():
        if not isinstance(row, Mapping):
            continue
        if row and all(isinstance(inner, Mapping) for inner in row.values()):
            yield from ((f"{name}, {inner}", values) for inner, values in row.items())
            continue
        yield name, row
        if "first_order" in row:
            yield f"{name}, first order", row["first_order"]


def table(rows: Mapping[str, Mapping[str, Any]], columns: Iterable[str]) -> list[str]:
    """Return the lines of a table; what a row lacks is a dash.

    >>> table({"cnn": {"seconds": 0.12345}}, ["seconds", "torch_over_jax"])
    ['| | seconds | torch_over_jax |', '|:--|--:|--:|', '| cnn | 0.123 | – |']
    """
    columns = list(columns)
    return [
        f"| | {' | '.join(columns)} |",
        f"|:--|{'--:|' * len(columns)}",
        *(
            f"| {name} | {' | '.join(shown(row.get(column)) for column in columns)} |"
            for name, row in rows.items()
        ),
    ]


def shown(value: Any) -> str:
    """Return a value in three digits.

    >>> shown(None), shown(128), shown(1234567.0), shown(0.98765)
    ('–', '128', '1.23e+06', '0.988')
    """
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)
