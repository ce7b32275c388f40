"""A finished report, read back to add an audit."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.report.content import ReportContent


def read_content(report: Path, scores: Path, metrics: Path) -> ReportContent:
    """Return the content of a report.

    Args:
      report: the report's JSON file.
      scores: the per-example scores.
      metrics: the diagnostics of every step.

    Raises:
      InputError: a file of the run is missing or damaged.
    """
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        with open(scores, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            arrays = dict(arrays)
        lines = metrics.read_text(encoding="utf-8").splitlines()
        return _content(content, arrays, [json.loads(line) for line in lines])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "run",
            f"{report.parent} does not hold a finished run ({error})",
            "give the folder of a finished run",
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "run",
            f"{report.name}, {scores.name} or {metrics.name} in {report.parent} is not what the "
            f"run wrote ({type(error).__name__}: {error})",
            "give a run folder with its original files",
        ) from error


def read_report(report: Path) -> ReportContent:
    """Return the content of a report without scores of single examples and diagnostics.

    Raises:
      InputError: the file is missing or is not a report.
    """
    try:
        return _content(json.loads(report.read_text(encoding="utf-8")), {}, [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{report.parent} does not hold a report ({type(error).__name__}: {error})"
        raise InputError("run", problem, "give the folder of a finished run") from error


def _content(
    report: dict[str, Any], scores: dict[str, np.ndarray], steps: list[dict[str, Any]]
) -> ReportContent:
    return ReportContent(
        run={**report["run"], "seeds": report["seeds"]},
        request=report["request"],
        rows=report["rows"],
        config=report["config"],
        versions=report["versions"],
        attacks=report["attacks"],
        signals=_by_model(scores),
        class_accuracy={
            name: np.array([np.nan if x is None else x for x in values])
            for name, values in report["class_accuracy"].items()
        },
        class_names=report["class_names"],
        history=_history(steps),
        auc_band=report["auc_band"] and tuple(report["auc_band"]),
        audit=report.get("audit"),
        ledger=report.get("ledger"),
    )


def _by_model(scores: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    for path, values in scores.items():
        model, name = path.split("/")
        nested.setdefault(model, {})[name] = values
    return nested


def _history(steps: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the diagnostics of the method's steps as columns."""
    own = [row for row in steps if row.get("phase", "").startswith("unlearn (")]
    names = [name for name in (own[0] if own else {}) if name != "phase"]
    return {name: [row[name] for row in own] for name in names}
