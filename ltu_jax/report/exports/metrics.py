"""The numbers of a report that exports repeat, with the value that each is compared with."""

from __future__ import annotations

from typing import NamedTuple

from ltu_jax.report.content import ReportContent, find_row, label, measured, number

METRICS = {
    "ua": ("forget error (UA)", "forget"),
    "ra": ("retain accuracy (RA)", "retain"),
    "ta": ("test accuracy (TA)", "test"),
    "mia": ("share of the forget set called unseen (MIA)", "forget"),
    "auc": ("loss attack, AUC", "forget against test"),
    "ks": ("KS distance of the confidences", "forget against test"),
    "avg_gap": ("average gap to Retrain", "all"),
}


class Metric(NamedTuple):
    """A number of the unlearned model.

    Attributes:
      key: in a row of the report.
      name: for readers.
      part: of the data.
      value: in percent.
      target: Retrain's value; None if no model was retrained.
      before: the original model's value.
      band: interval of retrained models; None if unknown.
    """

    key: str
    name: str
    part: str
    value: float
    target: float | None
    before: float | None
    band: tuple[float, float] | None


def metrics(content: ReportContent) -> list[Metric]:
    """Return the measured numbers of the unlearned model."""
    row, retrain = find_row(content, content.run["method"]), find_row(content, "retrain")
    original = find_row(content, "original")

    def known(value):
        return float(value) if measured(value) else None

    return [
        Metric(
            key,
            name,
            part,
            float(row[key]),
            known(retrain.get(key)),
            known(original.get(key)),
            content.auc_band if key == "auc" else None,
        )
        for key, (name, part) in METRICS.items()
        if measured(row.get(key))
    ]


def table(content: ReportContent) -> str:
    """Return the numbers of all models as a Markdown table, in percent."""
    rows = [row for row in content.rows if row]
    lines = [
        "| | " + " | ".join(escape(label(row["model"])) for row in rows) + " |",
        "|:--" + "|--:" * len(rows) + "|",
    ]
    for key, (name, _) in METRICS.items():
        if any(measured(row.get(key)) for row in rows):
            lines.append(f"| {name} | " + " | ".join(number(row.get(key)) for row in rows) + " |")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return a text whose Markdown and HTML show as they are written."""
    for character in "\\`*_[]<>|#":
        text = text.replace(
            character,
            f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character],
        )
    return " ".join(text.split())
