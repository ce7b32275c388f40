"""Facts that identify a finished run: ledger entry, digests of its models, date and times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax.audit.summary import GAP_METRICS, Row
from ltu_jax.files import read_checksummed
from ltu_jax.report import versions
from ltu_jax.report.content import plain
from ltu_jax.runs.folder import RunFolder, RunState
from ltu_jax.runs.models import by_label
from ltu_jax.runs.plan import Plan, changed_options
from ltu_jax.runs.sequential.drift import measure_drift
from ltu_jax.types import TrainedModel


def run_digests(folder: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of `data` and of the models `original` and `unlearned`, by value."""
    return {
        "data": read_checksummed(folder.spec)["data_sha256"],
        "original": ledger.model_digest(folder.original),
        "unlearned": ledger.model_digest(folder.unlearned),
    }


def record(
    plan: Plan,
    models: Mapping[str, TrainedModel],
    metrics: Mapping[str, Row],
    state: RunState,
    folder: RunFolder,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the drift and write the run's ledger; doing it again writes the same ledger.

    Returns:
      What the report says of the entry (`entry`, `sha256`, `drift`), and `sha256` and `time` of the
      run, see `ReportContent.run`.

    Raises:
      TamperedError: the ledger of the previous request is not what was written.
    """
    date, digests = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), run_digests(state.folder)
    before = None if plan.earlier is None else state.folder.running
    entries = [] if before is None else ledger.read(before)
    drift = plain(measure_drift(plan, models, entries))
    second, retrain = metrics.get("retrain_2"), metrics.get("retrain")
    unlearned = metrics["unlearned"]
    names = (*GAP_METRICS, "auc", "ks", "avg_gap", "gaps", "seconds")
    content = {
        "time": date,
        "parent": digests["original"],
        "child": digests["unlearned"],
        "completed": list(plan.spec.completed),
        "method": plan.method.name,
        "options": {
            "retain_fraction": plan.spec.retain_fraction,
            **changed_options(plan.method, plan.config, plan.recipe),
        },
        "seed": plan.seed,
        "metrics": {
            **{name: getattr(unlearned, name) for name in names},
            "floor": None if second is None else second.avg_gap,
            "retrain_seconds": None if retrain is None else retrain.seconds,
        },
        "drift": drift,
        "versions": versions(),
    }
    ids = np.asarray(plan.dataset.train_ids)[plan.split.forget].tolist()
    entry = ledger.append(folder, plain(content), ids, before=before)
    compiling = {name: one.compile_seconds for name, one in by_label(plan, models).items()}
    facts = {"sha256": digests, "time": {"date": date, "compile_seconds": compiling}}
    return {"entry": entry["entry"], "sha256": entry["sha256"], "drift": drift}, facts
