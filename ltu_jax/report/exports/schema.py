"""The JSON Schema of `report.json`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `report.json`.

    >>> sorted(report_schema()["required"])[:3]
    ['attacks', 'auc_band', 'class_accuracy']
    """
    text = files("ltu_jax.report.exports").joinpath("report.schema.json").read_text("utf-8")
    return json.loads(text)
