"""Outputs of models as files: the audit of any framework's, and those of a run of this library."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax import paths
from ltu_jax.audit.ensembles import part_rows
from ltu_jax.audit.measure import retrained_band
from ltu_jax.audit.models import untrained_model
from ltu_jax.audit.outputs import OutputsAudit, from_outputs
from ltu_jax.errors import InputError
from ltu_jax.files import file_digest, write_arrays, write_json
from ltu_jax.report.content import ReportContent, plain
from ltu_jax.report.verdict import verdict
from ltu_jax.report.write import versions, write_report
from ltu_jax.runs.audit import Audit, ensemble_logits, find_ensembles
from ltu_jax.runs.calls import as_call
from ltu_jax.runs.ensembles import Ensemble, canary_pairs
from ltu_jax.runs.folder import RunFolder, check_folder, check_writable, new_run
from ltu_jax.runs.loading import load_models, load_plan
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.results import describe_attacks
from ltu_jax.runs.spec import InMemory
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.supervised import predict
from ltu_jax.types import Dataset
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.ltu.config import MatchingConfig

SHARES = "features: outputs on the example itself"


def audit_outputs(
    outputs: Mapping[str, Any] | str | os.PathLike,
    *,
    kind: str = "auto",
    seed: int | None = None,
    alpha: float = 0.05,
    out: str | os.PathLike | None = None,
    command: str | None = None,
) -> Audit:
    """Audit models of any framework by their outputs, and write the report.

    Args:
      outputs: arrays by name, or a file of them; see `audit.from_outputs`.
      kind: of the outputs, see `audit.from_outputs`.
      seed: of subsets and folds; None takes that of the file, else 0.
      alpha: chance of a false alarm, shared among all counted tests.
      out: folder of the report, new or empty; None makes a new one under `runs/`.
      command: how to repeat the audit, for the report; None writes this call.

    Returns:
      The entry `audit` of `report.json`, see `audit_run`, with `left_out`; and `verdict`, the
      headline of the report, and its `folder`.

    Raises:
      InputError: an argument is wrong; nothing was computed or written.

    Example:
      >>> import ltu_jax
      >>> ltu_jax.audit_outputs("outputs.npz")["left_out"]  # doctest: +SKIP
    """
    command = as_call(audit_outputs, locals()) if command is None else command
    started = time.perf_counter()
    check_folder(out)
    audited = from_outputs(outputs, kind=kind, seed=seed, alpha=alpha)
    content = _content(audited, outputs, command, started)
    with new_run(out, f"{content.run['data']}-outputs") as folder:
        arrays = {
            f"{model}/{name}": values
            for model, scores in audited.measured.signals.items()
            for name, values in scores.items()
        }
        write_arrays(folder.scores, arrays, mode=0o600)
        write_json(folder.audit, plain(content.audit))
        write_report(content, folder.path)
    found = {"folder": str(folder), "verdict": verdict(content).sentence}
    return Audit(plain(content.audit) | found)


def _content(audited: OutputsAudit, source: Any, command: str, started: float) -> ReportContent:
    about, split = audited.about, audited.split
    path = None if isinstance(source, Mapping) else paths.local("outputs", source)
    sizes = {name: len(rows) for name, rows in split._asdict().items()}
    method = audited.audit["method"]
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digests = {} if path is None or path.is_dir() else {"sha256": {"outputs": file_digest(path)}}
    matching = bool(about.get("shares"))
    names = about.get("class_names") or [str(i) for i in range(audited.classes)]
    return ReportContent(
        run={
            "source": "outputs",
            "data": about.get("data") or (path.stem if path else "outputs"),
            "model": about.get("model", "not known, only its outputs"),
            "method": method,
            "seeds": {"run": audited.seed},
            "warnings": audited.warnings,
            "command": command,
            "sizes": {"train": sizes["forget"] + sizes["retain"], **sizes},
            "time": {"date": date, "seconds": time.perf_counter() - started},
            **digests,
        },
        request={"type": "rows", "count": sizes["forget"]},
        rows=[row._asdict() for row in audited.measured.rows],
        config={"outputs": {"kind": audited.kind, "file": None if path is None else path.name}},
        versions=versions(),
        attacks=describe_attacks(split, audited.seed, matching=matching),
        signals=audited.measured.signals,
        class_accuracy=audited.measured.class_accuracy,
        class_names=names,
        history={},
        auc_band=retrained_band(audited.measured),
        audit=audited.audit | {"command": command},
    )


@relaxed()
def write_outputs(
    run: str | os.PathLike,
    outputs: str | os.PathLike,
    *,
    ensembles: str | os.PathLike | None = None,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
) -> Path:
    """Write the outputs of a finished run's models, from which anyone can repeat its audit.

    Args:
      run: folder of the run.
      outputs: the `.npz` file to write.
      ensembles: folder of ensembles, whose outputs are written as well; see `audit_run`.
      data: the data set, if the run's was made in Python; the same for the next two.
      model: the model.
      method: the method.

    Raises:
      InputError: the folder holds no finished run, or the file cannot be written.
    """
    path = check_path(outputs)
    plan = load_plan(run, InMemory(data, model, method=method))
    place = None if ensembles is None else paths.local("ensembles", ensembles)
    found = {} if place is None else find_ensembles(plan, place)
    arrays = run_outputs(plan, RunFolder(run))
    for name, ensemble in found.items():
        arrays |= _ensemble_arrays(plan, name, ensemble)
    write_arrays(path, arrays, mode=0o600)  # scores of single examples are personal data
    return path


def check_path(outputs: str | os.PathLike) -> Path:
    """Return the path of a file of outputs that can be written.

    Raises:
      InputError: it is not an `.npz` file, or its folder cannot be written to.
    """
    path = paths.local("write_outputs", outputs)
    if path.suffix != ".npz" or path.is_dir():
        raise InputError("write_outputs", f"is {path}", "name an .npz file")
    check_writable("write_outputs", path.parent)
    return path


def run_outputs(plan: Plan, folder: RunFolder) -> dict[str, np.ndarray]:
    """Return the outputs of a run's models as arrays by name, see `audit.from_outputs`."""
    problem, split = plan.problem, plan.split
    train, heldout = problem.dataset.train, problem.dataset.heldout
    part = np.full(len(train.labels), "retain_unseen")
    part[split.accessible], part[split.forget] = "retain", "forget"
    held = [("test", split.test), ("validation", split.validation)]
    models = load_models(folder, plan) | {"untrained": untrained_model(problem)}

    def outputs(variables) -> Iterator[np.ndarray]:
        yield np.asarray(predict(problem.model, variables, train.inputs))
        for _, rows in held:  # the test set by itself, as the run computed it
            if len(rows):
                yield np.asarray(predict(problem.model, variables, heldout.inputs[rows]))

    labels = [np.asarray(train.labels), *(np.asarray(heldout.labels)[rows] for _, rows in held)]
    return {
        "about": np.array(json.dumps(_about(plan, folder))),
        "labels": np.concatenate(labels),
        "part": np.concatenate([part, *(np.full(len(rows), name) for name, rows in held)]),
        **{n: np.concatenate([*outputs(one.variables)]) for n, one in models.items()},
    }


def _about(plan: Plan, folder: RunFolder) -> dict[str, Any]:
    rows = json.loads(folder.report.read_text(encoding="utf-8"))["rows"]
    seconds = {
        "unlearned" if row["model"] == plan.method.name else row["model"]: row["seconds"]
        for row in rows
        if row["seconds"] is not None
    }
    return {
        "data": plan.dataset.name,
        "model": plan.model.name,
        "method": plan.method.name,
        "seed": int(plan.seed),
        "class_names": list(plan.dataset.class_names),
        "seconds": seconds,
        # A method with membership models was trained against attacks on the same features.
        "shares": SHARES if isinstance(plan.config, MatchingConfig) else "",
    }


def _ensemble_arrays(plan: Plan, name: str, ensemble: Ensemble) -> dict[str, np.ndarray]:
    """Return the arrays of an ensemble; rows are those of `run_outputs`."""
    size, split = len(plan.dataset.train.labels), plan.split
    by_test = {int(row): size + i for i, row in enumerate(split.test)}
    parts = ensemble_logits(plan, ensemble)
    arrays: dict[str, np.ndarray] = {}
    rows = part_rows(split, plan.seed)
    if ensemble.inclusion is not None:
        pairs = canary_pairs(plan)
        rows = {"first": pairs.first, "second": pairs.second, "test": rows["test"]}
        arrays["pairs"] = np.stack([pairs.first, pairs.second], axis=1)
        arrays[f"ensemble_{name}_included"] = ensemble.inclusion
    rows["test"] = np.array([by_test[int(row)] for row in rows["test"]])
    return arrays | {
        f"ensemble_{name}": np.concatenate([parts[part][0] for part in rows], axis=1),
        f"ensemble_{name}_noisy": np.concatenate([parts[part][2] for part in rows], axis=1),
        f"ensemble_{name}_rows": np.concatenate([rows[part] for part in rows]),
    }
