"""Results as Markdown: a table with units for every part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.performance.first_report import STAGES

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


# Heading and meaning of every part.
PARTS = {
    "ltu_step": ("LTU step", "One step, second order, and the same of first order."),
    "sgd_step": ("SGD step", "One step of SGD on random labels, as the baselines run it."),
    "ensemble": ("Ensembles", "Many models trained by `vmap`, and one after another."),
    "pool": ("Ensembles", "Many models trained by `vmap`, and one after another."),
    "rte": ("LTU against Retrain", "Time of a whole deletion over that of retraining."),
    "import_seconds": ("Import", "`import ltu_jax` after `import jax`, in a fresh process."),
    "profile": ("Time by operation", "Shares of the time of one LTU step, on one thread."),
    "methods": ("Methods", "One step of each method, and over a plain gradient."),
    "variants": ("Hessian-vector products", "Three forms, and over the first."),
    "compiler": ("Compiler options", "A gradient by XLA's own options and by the library's."),
    "harmonizer": ("Harmonizer", "Vmapped projections over their closed form."),
    "memory": ("Memory", "An LTU step with and without rematerialisation."),
    "growth": ("Growth", "An LTU step while one size grows, and over the smallest."),
    "operations": ("Single operations", "The same operation in XLA and in PyTorch."),
    "compile": ("Compilation", "One LTU step compiled in a fresh process without a cache."),
    "requests": (
        "Compilations of five requests",
        "Requests of several sizes and of one class on one model, each in a process; all share a "
        "compilation cache that is empty at first. Small programs compile in less than 0.2 s.",
    ),
    "trials": ("Compilations of tuning", "All trials of one method in one process."),
    "first_report": (
        "From the command to the report",
        "`ltu unlearn` in fresh processes: stages without compilation, compilation apart.",
    ),
}
HEADINGS = {
    "ratio_to_plain": "time / plain gradient",
    "count_ratio": "operations / plain gradient",
    "ratio_to_count": "time / operation count",
    "torch_over_jax": "PyTorch's time / ours",
    "torch_over_xla": "PyTorch's time / XLA's",
    "share_of_matmul_rate": "rate / large product's",
    "flops_by_xla": "operations by XLA",
    "flops_by_hand": "operations by hand",
    "peak_bytes": "peak memory",
    "compiled_small": "small programs compiled",
    "rte": "LTU / Retrain",
    "wall_rte": "LTU / Retrain, run to the end",
    "step_ratio": "step / Retrain's step",
    "over_plain": "time / plain gradient",
    "over_definition": "time / first form",
    "over_first": "time / smallest",
    "over_first_order": "time / first order",
    "xla_over_library": "XLA's options / library's",
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
        heading, meaning = PARTS.get(part, (title(part), ""))
        texts.append("\n\n".join(x for x in (f"## {heading}", meaning, _part(part, rows)) if x))
    return "\n\n".join(texts)


def _part(part: str, content: Any) -> str:
    if not isinstance(content, Mapping):
        return shown(content, part)
    rows = dict(_rows(content))
    plain = {name: value for name, value in content.items() if not isinstance(value, Mapping)}
    lines = [f"- {title(name)}: {shown(value, name)}" for name, value in plain.items()]
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

    >>> table({"cnn": {"step_seconds": 0.12345}}, ["step_seconds", "torch_over_jax"])
    ["| | step | PyTorch's time / ours |", '|:--|--:|--:|', '| cnn | 123 ms | – |']
    """
    columns = list(columns)
    return [
        f"| | {' | '.join(map(title, columns))} |",
        f"|:--|{'--:|' * len(columns)}",
        *(
            f"| {name} | {' | '.join(shown(row.get(column), column) for column in columns)} |"
            for name, row in rows.items()
        ),
    ]


def title(name: str) -> str:
    """Return the heading of a result.

    >>> title("step_seconds"), title("peak_bytes"), title("at_once")
    ('step', 'peak memory', 'at once')
    """
    return HEADINGS.get(name) or (name.removesuffix("_seconds").replace("_", " ") or "time")


def shown(value: Any, name: str = "") -> str:
    """Return a value in three digits with its unit; of three, the median with the extremes.

    >>> shown(None), shown(128), shown(1234567.0), shown(0.98765)
    ('–', '128', '1.23e+06', '0.988')
    >>> shown(0.0123, "step_seconds"), shown(2262438, "peak_bytes"), shown(1.1e8, "flops_by_xla")
    ('12.3 ms', '2.26 MB', '0.11 G')
    >>> shown([0.5, 0.75, 1.0], "torch_over_jax")
    '0.75 (0.5 to 1)'
    """
    if value is None:
        return "–"
    if isinstance(value, list):
        low, middle, high = value
        return f"{shown(middle, name)} ({shown(low, name)} to {shown(high, name)})"
    if not isinstance(value, int | float):
        return str(value)
    if name == "seconds" or name.endswith("_seconds") or name in _STAGES:
        return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
    if name.endswith("_bytes"):
        return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"
    if name.startswith("flops"):
        return f"{value / 1e9:.3g} G"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_STAGES = (*STAGES, "total")


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str | list)
