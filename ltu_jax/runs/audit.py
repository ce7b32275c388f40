"""The audit of a finished run: attacks on its models, and on ensembles if there are any."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax import paths
from ltu_jax.audit.ensembles import (
    NOISE,
    attack_ensembles,
    ensemble_outputs,
    ensemble_signals,
    paired_examples,
    part_examples,
)
from ltu_jax.audit.models import compare_models
from ltu_jax.errors import InputError
from ltu_jax.files import write_json
from ltu_jax.report import write as report
from ltu_jax.report.content import plain
from ltu_jax.report.notebook import audit_html, audit_text
from ltu_jax.report.read import read_content
from ltu_jax.runs import lock
from ltu_jax.runs.calls import as_call
from ltu_jax.runs.ensembles import (
    MAX_SIZE,
    MIN_SIZE,
    TYPES,
    Ensemble,
    canary_pairs,
    ensemble_folder,
    read_ensemble,
)
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_models, load_plan, load_spec
from ltu_jax.runs.models import by_label
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.progress import Progress
from ltu_jax.runs.spec import InMemory
from ltu_jax.training.compilation import relaxed
from ltu_jax.types import Dataset
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.ltu.config import MatchingConfig


class Audit(dict[str, Any]):
    """The entry `audit` of `report.json`; shows as its verdict and its first table."""

    def __repr__(self) -> str:
        return audit_text(self)

    def _repr_html_(self) -> str:
        return audit_html(self)


@relaxed()
def audit_run(
    folder: str | os.PathLike,
    *,
    ensembles: str | os.PathLike | None = None,
    alpha: float = 0.05,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
    command: str | None = None,
    quiet: bool = False,
) -> Audit:
    """Audit a finished run and add the results to its report.

    Args:
      folder: of the run.
      ensembles: folder of ensembles, or one of them; None skips the attacks that need them.
      alpha: chance of a false alarm, shared among all counted tests.
      data: the data set, if the run's was made in Python; the same for the next two.
      model: the model.
      method: the method.
      command: how to repeat the audit, for the report; None writes this call.
      quiet: show no progress.

    Returns:
      The entry `audit` of `report.json`: `alpha`, `command` and `method`; `population` and
      `distances`, see `compare_models`; from ensembles `ensembles` (size, seconds and folder by
      type), `distinguishing`, `per_example` and `tests`, see `attack_ensembles`.

    Raises:
      InputError: the folder holds no finished run, or there are no ensembles of it.
    """
    command = as_call(audit_run, locals()) if command is None else command
    folder = paths.local("run", folder)
    if not 0 < alpha < 1:
        raise InputError("alpha", f"is {alpha}", "give a level between 0 and 1, such as 0.05")
    load_spec(folder)
    with lock.claim(folder, "run"):
        plan = load_plan(folder, InMemory(data, model, method=method))
        place = None if ensembles is None else paths.local("ensembles", ensembles)
        result = _audit(plan, RunFolder(folder), place, alpha, command, quiet)
    return Audit(plain(result))


def _audit(
    plan: Plan,
    folder: RunFolder,
    ensembles: Path | None,
    alpha: float,
    command: str,
    quiet: bool,
) -> dict[str, Any]:
    content = read_content(folder.report, folder.scores, folder.metrics)
    found = {} if ensembles is None else find_ensembles(plan, ensembles)
    with Progress(None, quiet=quiet) as progress:
        on_info = progress.phase("audit", 1 + len(found))
        result: dict[str, Any] = {"alpha": alpha, "command": command, "method": plan.method.name}
        result |= compare_models(plan.problem, by_label(plan, load_models(folder, plan)), alpha)
        on_info(0, {})
        result |= audit_ensembles(plan, found, alpha, lambda done: on_info(done + 1, {}))
    report.write_report(content._replace(audit=plain(result)), folder)
    write_json(folder.audit, plain(result))
    return result


def audit_ensembles(
    plan: Plan, found: Mapping[str, Ensemble], alpha: float, on_done: Callable[[int], None]
) -> dict[str, Any]:
    """Return the part of an audit that needs ensembles; see `attack_ensembles`.

    Args:
      plan: of the deletion.
      found: the ensembles by type.
      alpha: see `audit_run`.
      on_done: called with 0, 1, ... after each ensemble.
    """
    problem = plan.problem
    outputs = {}
    for done, (name, ensemble) in enumerate(found.items()):
        outputs[name] = {
            part: ensemble_signals(logits, labels, noisy)
            for part, (logits, labels, noisy) in ensemble_logits(plan, ensemble).items()
        }
        on_done(done)
    inclusion = {name: one.inclusion for name, one in found.items() if one.inclusion is not None}
    # A method with membership models was trained against attacks on the same features.
    matching = isinstance(plan.config, MatchingConfig)
    shares = "features: outputs on the example itself" if matching else ""
    made = {
        name: {"models": len(one.streams), "seconds": one.seconds, "folder": one.folder.name}
        for name, one in found.items()
    }
    return {"ensembles": made} | attack_ensembles(
        outputs, inclusion, alpha=alpha, seed=problem.seed, shares=shares
    )


def ensemble_logits(
    plan: Plan, ensemble: Ensemble
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return logits `[M, n, C]`, labels and noisy margins of an ensemble by part of the data."""
    problem = plan.problem
    noise_std = NOISE * float(np.std(problem.dataset.train.inputs))
    if ensemble.inclusion is None:
        examples = part_examples(problem)
    else:
        examples = paired_examples(problem, canary_pairs(plan))
    found = {}
    for part, some in examples.items():
        logits, noisy = ensemble_outputs(
            problem.model, ensemble.variables, some, noise_std=noise_std, seed=problem.seed
        )
        found[part] = (logits, np.asarray(some.labels), noisy)
    return found


def find_ensembles(plan: Plan, folder: Path) -> dict[str, Ensemble]:
    """Return the largest ensemble of each type that belongs to the plan.

    Raises:
      InputError: there are too few for an audit.
    """
    folder = folder.parent if (folder / "about.json").exists() else folder
    found: dict[str, Ensemble] = {}
    small, others = [], 0
    for name in TYPES:
        made = [path for path in folder.glob(f"{name}-*-*") if (path / "about.json").exists()]
        named = {path.name.split("-")[1] for path in made}
        sizes = {int(size) for size in named if size.isdecimal() and 2 <= int(size) <= MAX_SIZE}
        own = [size for size in sizes if ensemble_folder(plan, name, size, folder) in made]
        others += len(made) - len(own)
        if own and max(own) >= MIN_SIZE:
            found[name] = read_ensemble(plan, name, max(own), folder)
        elif own:
            small.append(f"{name} of {max(own)} models")
    if not {"retrain", "unlearned"} <= found.keys() and "shadow_unlearned" not in found:
        raise _too_few(folder, list(found), small, others)
    return found


def _too_few(folder: Path, found: list[str], small: list[str], others: int) -> InputError:
    """Return the error of a folder whose ensembles are not enough for an audit."""
    parts = found + [f"{one}, too few" for one in small]
    if others:
        parts.append(f"{others} of other data, requests, methods or options")
    problem = (
        f"{folder} lacks ensembles of retrain and unlearned, or of shadow_unlearned, of this run "
        f"with {MIN_SIZE} models a side; it has {'; '.join(parts) or 'no ensemble'}"
    )
    remedy = f"make them with `make_ensembles`, {MIN_SIZE} models or more"
    return InputError("ensembles", problem, remedy)
