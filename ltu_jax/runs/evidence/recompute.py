"""The numbers of a finished report, computed a second time and compared with the first.

From the stored outputs (`scores.npz`) this takes seconds and needs neither models nor data. From
the checkpoints it needs the data set as well, and finds a report that never belonged to them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltu_jax import paths
from ltu_jax.audit import bounds
from ltu_jax.audit.measure import measure_models, retrained_band
from ltu_jax.audit.models import compare_models
from ltu_jax.audit.summary import Row, row_of, with_gaps
from ltu_jax.errors import InputError
from ltu_jax.report.content import ROW_KEYS, ReportContent, plain
from ltu_jax.report.read import read_content
from ltu_jax.runs import lock
from ltu_jax.runs.audit import audit_ensembles, find_ensembles
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_models, load_plan
from ltu_jax.runs.models import by_label
from ltu_jax.runs.spec import InMemory
from ltu_jax.training.compilation import relaxed
from ltu_jax.types import Dataset
from ltu_jax.unlearners.base import Method

TOLERANCE = 1e-6  # of numbers from stored outputs, relative to the number or to 1
FULL_TOLERANCE = 1e-3  # of numbers from checkpoints, which another device rounds differently
_NOT_REPEATED = ("model", "seconds")  # the name of a row, and what no repetition has again


class Check(NamedTuple):
    """One number of the report and its second value.

    Attributes:
      name: its place in `report.json`, such as `rows.ltu.auc`.
      stored: the value of the report.
      found: the value that was computed now.
      agreement: `equal` to the last digit, `close` within the tolerance, or `different`.
    """

    name: str
    stored: Any
    found: Any
    agreement: str


class Verification(NamedTuple):
    """What a recomputation found.

    Attributes:
      checks: every number that was compared.
      unchecked: what could not be compared, one sentence each.
    """

    checks: list[Check]
    unchecked: list[str]

    @property
    def different(self) -> list[Check]:
        """The numbers that disagree."""
        return [check for check in self.checks if check.agreement == "different"]


def verify_run(
    run: str | os.PathLike,
    *,
    full: bool = False,
    ensembles: str | os.PathLike | None = None,
    tolerance: float | None = None,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
) -> Verification:
    """Compute the numbers of a finished run again and compare them with its report.

    Args:
      run: the folder of the run; nothing in it changes.
      full: compute from the checkpoints and the data set instead of the stored outputs.
      ensembles: folder of the ensembles of the run's audit; only with `full`.
      tolerance: largest difference that counts as close, relative to the number or to 1; None
        takes 1e-6, and 1e-3 with `full`.
      data: the data set, if it was made in Python; the same for the next two. Only with `full`.
      model: the model.
      method: the method.

    Raises:
      InputError: the folder holds no finished run, a file of it is damaged or missing, or an
        argument is wrong.
    """
    if tolerance is None:
        tolerance = FULL_TOLERANCE if full else TOLERANCE
    if not 0 <= tolerance < 1:
        raise InputError("tolerance", f"is {tolerance}", "give a number from 0 to below 1")
    if ensembles is not None and not full:
        raise InputError("ensembles", "are used from checkpoints only", "give `full` as well")
    folder = RunFolder(run)
    content = read_content(folder.report, folder.scores, folder.metrics)
    if full:
        objects = InMemory(data, model, method=method)
        found, unchecked = _from_checkpoints(folder, content, ensembles, objects)
    else:
        found, unchecked = _from_outputs(folder, content)
    stored = {
        "rows": {row["model"]: _numbers(row) for row in content.rows},
        "auc_band": content.auc_band,
        "class_accuracy": content.class_accuracy,
        "audit": content.audit,
    }
    checks = list(_compare("", plain(stored), plain(found), tolerance))
    return Verification(checks, unchecked)


def _from_outputs(folder: RunFolder, content: ReportContent) -> tuple[dict[str, Any], list[str]]:
    """Return what the stored outputs give, by its place in the report, and what they lack."""
    seed, unchecked = content.run["seeds"]["run"], []
    scores = {row["model"]: {} for row in content.rows} | dict(content.signals)
    try:
        if all("forget_loss" in one for one in scores.values()):
            rows = [row_of(n, one, seconds=math.nan, seed=seed) for n, one in scores.items()]
            found = {"rows": _rows(rows), "auc_band": _band(scores)}
        else:
            unchecked.append(
                f"UA, MIA, AUC, KS and gaps: {folder.scores.name} has no scores of the forget set."
            )
            found = {"rows": {name: _accuracies(one) for name, one in scores.items()}}
    except (InputError, KeyError, ValueError, IndexError) as error:
        problem = f"{folder.scores} is not what the run wrote ({type(error).__name__}: {error})"
        raise InputError("run", problem, "restore the file from a copy") from error
    unchecked.append("class_accuracy: it needs the data set; give `full`.")
    if any(row.get("attack_success") is not None for row in content.rows):
        unchecked.append("attack_success: it needs triggered inputs; give `full`.")
    if content.audit is not None:
        unchecked.append("audit: it needs the models; give `full`.")
    return found, unchecked


def _band(scores: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[float, float] | None:
    retrained = [scores[name] for name in ("retrain", "retrain_2") if name in scores]
    if len(retrained) < 2:
        return None
    return bounds.retrained_auc_band(
        *((-one["forget_loss"], -one["test_loss"]) for one in retrained)
    )


def _accuracies(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the accuracies that need no score of a forget example."""
    parts = {"ra": "retain", "ta": "test", "ra_accessible": "accessible"}
    parts["ra_inaccessible"] = "inaccessible"
    values = {name: scores.get(f"{part}_correct", ()) for name, part in parts.items()}
    return {name: 100.0 * float(np.mean(one)) for name, one in values.items() if len(one)}


@relaxed()
def _from_checkpoints(
    folder: RunFolder,
    content: ReportContent,
    ensembles: str | os.PathLike | None,
    objects: InMemory,
) -> tuple[dict[str, Any], list[str]]:
    """Return what the checkpoints give, by its place in the report, and what was left out."""
    plan, unchecked = load_plan(folder, objects), []
    lock.check_free(folder.path, "run")
    models = by_label(plan, load_models(folder, plan))
    measured = measure_models(plan.problem, models, on_done=lambda done: None)
    found = {
        "rows": _rows(measured.rows),
        "auc_band": retrained_band(measured),
        "class_accuracy": measured.class_accuracy,
    }
    if (audit := content.audit) is not None:
        found["audit"] = compare_models(plan.problem, models, audit["alpha"])
        if ensembles is not None:
            made = find_ensembles(plan, paths.local("ensembles", ensembles))
            repeated = audit_ensembles(plan, made, audit["alpha"], lambda done: None)
            found["audit"] |= {n: one for n, one in repeated.items() if n != "ensembles"}
        elif audit["ensembles"]:
            unchecked.append("audit: its tests on ensembles; give `ensembles`.")
    return found, unchecked


def _rows(rows: list[Row]) -> dict[str, Any]:
    return {row.model: _numbers(row._asdict()) for row in with_gaps(rows)}


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row.get(key) for key in ROW_KEYS if key not in _NOT_REPEATED}


def _compare(name: str, stored: Any, found: Any, tolerance: float) -> Iterator[Check]:
    """Yield a check for each number of `found`; names that only the report has are passed over."""
    if isinstance(found, Mapping) and isinstance(stored, Mapping):
        for key, value in found.items():
            yield from _compare(f"{name}.{key}".lstrip("."), stored.get(key), value, tolerance)
    elif isinstance(found, list) and isinstance(stored, list) and len(found) == len(stored):
        for number, values in enumerate(zip(stored, found, strict=True)):
            yield from _compare(f"{name}.{number}", *values, tolerance)
    elif not (stored is None and found is None):
        yield Check(name, stored, found, _agreement(stored, found, tolerance))


def _agreement(stored: Any, found: Any, tolerance: float) -> str:
    if stored == found:
        return "equal"
    numbers = all(isinstance(one, int | float) for one in (stored, found))
    if numbers and abs(stored - found) <= tolerance * max(1.0, abs(stored)):
        return "close"
    return "different"
