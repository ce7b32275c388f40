"""From a deletion that was carried out to its entry in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax.audit.summary import GAP_METRICS, Row
from ltu_jax.runs.sequential.drift import measure_drift
from ltu_jax.audit.measure import Measurements
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions
from ltu_jax.runs.folder import Running
from ltu_jax.runs.settings import Asked
from ltu_jax.unlearners import changed_options


def record(
    plan: Plan,
    networks: Mapping[str, TrainedModel],
    measured: Measurements,
    asked: Asked,
    running: Running,
    folder: Path,
) -> dict[str, Any]:
    """Measure the drift and write the run's ledger; done again, it writes the same anew.

    Args:
      plan: of the run.
      networks: by the name that the report calls them.
      measured: what the audit found.
      asked: what the run was asked for.
      running: knows the ledger that the run goes on with, and where the networks are.
      folder: where the ledger goes.

    Returns:
      What the report says of it: `entry`, `sha256` and `drift`.

    Raises:
      TamperedError: the ledger that the run goes on with is not what was written.
    """
    since = None if plan.earlier is None else running.folder
    before = [] if since is None else ledger.read(since)
    drift = plain(measure_drift(plan, networks, before))
    content = {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "parent": ledger.network_digest(running.run / "original"),
        "child": ledger.network_digest(running.run / "unlearned"),
        "served": list(asked.served),
        "method": plan.method.name,
        "knobs": {
            "retain_fraction": plan.retain_fraction,
            **changed_options(plan.method, plan.config),
        },
        "seed": int(plan.seed),
        "metrics": _metrics(measured.rows),
        "drift": drift,
        "versions": versions(),
    }
    ids = np.asarray(plan.dataset.train_ids)[plan.split.forget].tolist()
    entry = ledger.append(folder, plain(content), ids, since=since)
    return {"entry": entry["entry"], "sha256": entry["sha256"], "drift": drift}


def _metrics(rows: list[Row]) -> dict[str, Any]:
    """Return the method's own row, the distances between the references, and times in seconds."""
    names = (*GAP_METRICS, "auc", "ks", "avg_gap", "gaps", "seconds")
    by_name = {row.model: row for row in rows}
    second = by_name.get("retrain_2")
    return {
        **{name: getattr(rows[-1], name) for name in names},
        "floor": None if second is None else second.avg_gap,
        "retrain_seconds": by_name["retrain"].seconds if "retrain" in by_name else None,
    }
