"""The content of a report: plain dictionaries and NumPy arrays, no models and no devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from ltu_jax.audit.summary import GAP_METRICS

REFERENCES = ("original", "retrain", "retrain_2")
ROW_KEYS = (
    "model",
    *GAP_METRICS,
    "avg_gap",
    "auc",
    "ks",
    "seconds",
    "gaps",
    "ra_accessible",
    "ra_inaccessible",
    "attack_success",
)
DASH = "\N{EN DASH}"  # shown for a value that was not measured
LABELS = {
    "original": "Original",
    "retrain": "Retrain",
    "retrain_2": "Second Retrain",
    "retrain_accessible": "Retrain on the accessible share",
    "nothing": "Nothing done",
    "ltu": "LTU",
    "unlearned": "Unlearned model",
}


class ReportContent(NamedTuple):
    """The data of a report. Accuracies, rates, gaps and AUCs are in percent (0 to 100).

    Attributes:
      run: `data`, `model`, `method` (the `model` of the row the report is about), `seeds` (name to
        integer), `command` (the exact command line or Python call) and `sizes` (`train`, `forget`,
        `retain`, `accessible`, `validation`, `test`, in examples). `warnings` lists what may be a
        mistake of the user, `made_by` says by model whose recipe made it, `guarantee` is the
        method's (a `Guarantee` as a dict), `operator` who ran it. `sha256` (of `data`,
        `original` and `unlearned`) identifies the run. `source` is `outputs` where only outputs of
        the models were given. `time`, which no repetition has again, holds
        `date` (UTC), `seconds` (wall time of the process that wrote the report) and
        `compile_seconds`, by model the part of the row's `seconds` in which JAX compiled.
      request: the result of `data.request.describe`: `type` (`ids`, `class`, `group` or `fraction`)
        with `count`, `sha256` and `column`, or `value`, or `fraction`. Never ids or group values.
      rows: one per model, an `audit.summary.Row` as a dict; `model` is `original`, `retrain`,
        `retrain_2` or a method's name, `gaps` holds the signed differences to Retrain.
        A value that was not measured is absent, None or NaN.
      config: the options of the run; may be nested.
      versions: see `write.versions`.
      attacks: `name`, `data` (of fitting and scoring), `shares_features` and `shares_data`
        (whether the method's membership models use the same) and `sentence`.
      signals: per model `forget_confidence` and `forget_loss`, `[n]`, `test_confidence` and
        `test_loss`, `[m]`: confidence in the true class (0 to 1) and cross-entropy in nats.
      class_accuracy: per model `[C]`, test accuracy of each class.
      class_names: `C` names.
      history: per-step diagnostics of the method, lists of equal length: `step`, any `loss_*`,
        `cosine` of the two gradients, `conflict` (0 or 1, or a share). Empty for other methods.
      auc_band: `audit.bounds.retrained_auc_band`, the interval of the loss attack's AUC from two
        models retrained on this request. None without two.
      audit: the result of `runs.audit_run`; None before an audit.
      ledger: number and SHA-256 of the run's ledger entry, and `drift`, the cumulative drift of the
        model's requests; None where no ledger is kept.
    """

    run: Mapping[str, Any]
    request: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    attacks: Sequence[Mapping[str, Any]]
    signals: Mapping[str, Mapping[str, np.ndarray]]
    class_accuracy: Mapping[str, np.ndarray]
    class_names: Sequence[str]
    history: Mapping[str, Sequence[float]]
    auc_band: tuple[float, float] | None = None
    audit: Mapping[str, Any] | None = None
    ledger: Mapping[str, Any] | None = None


def find_row(content: ReportContent, model: str) -> Mapping[str, Any]:
    """Return the row of `model`; an empty mapping if it has none."""
    return next((row for row in timed_rows(content) if row["model"] == model), {})


def timed_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return the rows with `compile_seconds`, None if unknown."""
    known = content.run.get("time", {}).get("compile_seconds", {})
    return [{**row, "compile_seconds": known.get(row["model"])} for row in content.rows]


def label(model: str) -> str:
    """Return the display name of a model: `retrain_2` is "Second Retrain"."""
    number_of = model.removeprefix("retrain_")
    return LABELS.get(model, f"Retrain {number_of}" if number_of.isdecimal() else model)


def measured(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a finite number."""
    return value is not None and bool(np.isfinite(value))


def counted(number_of: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1.

    >>> counted(1, "forget example"), counted(1200, "forget example")
    ('1 forget example', '1,200 forget examples')
    """
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def number(value: Any, digits: int = 1) -> str:
    """Return `value` with `digits` decimals and thousands separators; a dash if not measured."""
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}") if measured(value) else DASH


def signed(value: Any) -> str:
    """Return a difference with its sign and one decimal, zero as "0.0"; a dash if unmeasured."""
    if not measured(value):
        return DASH
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def seconds(value: Any) -> str:
    """Return a duration with its unit: seconds below ten minutes, then minutes and hours."""
    if not measured(value):
        return DASH
    if value < 600:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def running(row: Mapping[str, Any]) -> Any:
    """Return the time in seconds that a model took, without compilation if that is known."""
    total, compilation = row.get("seconds"), row.get("compile_seconds")
    return max(0.0, total - compilation) if measured(total) and measured(compilation) else total


def compiling(row: Mapping[str, Any]) -> str:
    """Return the time of compilation as "+9.1 s"; empty if it is unknown."""
    compilation = row.get("compile_seconds")
    return f"+{seconds(compilation)}" if measured(compilation) else ""


def plain(value: Any) -> Any:
    """Return `value` as JSON types: plain containers and scalars, null if not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
