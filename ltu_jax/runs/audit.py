"""A finished run in, an audit out that a sceptic can run again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ltu_jax.runs.ensembles as pools
import ltu_jax.runs.settings as saved
from ltu_jax.audit.ensembles import (
    NOISE,
    attack_ensembles,
    ensemble_outputs,
    paired_examples,
    part_examples,
)
from ltu_jax.audit.models import compare_models
from ltu_jax.errors import InputError
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.ensembles import Pool
from ltu_jax.runs.progress import Progress
from ltu_jax.report import write as report
from ltu_jax.report.content import plain
from ltu_jax.report.read import read_content
from ltu_jax.types import Dataset
from ltu_jax.unlearners.base import Method

LEAST_NETWORKS = 8  # a side; fewer leave too few to learn from once a half is set apart


def audit_run(
    folder: str | os.PathLike,
    *,
    pools_in: str | os.PathLike | None = None,
    alpha: float = 0.05,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
    command: str = "ltu_jax.audit_run(...)",
    quiet: bool = False,
) -> dict[str, Any]:
    """Audit a finished run and add what is found to its report.

    Args:
      folder: of the run.
      pools_in: folder in which pools are kept, or one of them; None makes no per-example audit.
      alpha: chance of a false alarm, shared among all tests that count.
      data: the data set, where the run was given one made in Python; so for the next two.
      model: the network.
      method: the method.
      command: what the report names as the way to make it again.
      quiet: show no progress.

    Returns:
      What `report.json` holds under `audit`: `population` and `distances` (a row for each
      network), and of the pools `apart` (by kind, then part of the data), `coins` (by kind, then
      attack), `tests` and `pools`.

    Raises:
      InputError: the folder holds no finished run, or there are no pools that belong to it.
    """
    folder = Path(folder)
    if not 0 < alpha < 1:
        raise InputError(f"--alpha {alpha}: give a level between 0 and 1, such as 0.05")
    plan = saved.load_plan(folder, data=data, model=model, method=method)
    content = read_content(folder)
    found = {} if pools_in is None else find_pools(plan, Path(pools_in))
    with Progress(None, quiet=quiet) as progress:
        on_info = progress.phase("audit", 1 + len(found))
        result: dict[str, Any] = {"alpha": alpha, "command": command}
        result |= compare_models(plan.problem, saved.load_networks(folder, plan), alpha)
        on_info(0, {})
        result |= audit_pools(plan, found, alpha, lambda done: on_info(done + 1, {}))
    report.write(content._replace(audit=plain(result)), folder)
    report.write_json(folder / "audit.json", plain(result))
    return plain(result)


def audit_pools(
    plan: Plan, found: Mapping[str, Pool], alpha: float, on_done: Callable[[int], None]
) -> dict[str, Any]:
    """Return the part of the audit that needs ensembles; see `attack_ensembles`.

    Args:
      plan: of the deletion.
      found: the pools by kind.
      alpha: see `audit_run`.
      on_done: called with 0, 1, ... as pools are done.
    """
    problem = plan.problem
    noise_std = NOISE * float(np.std(problem.dataset.train.inputs))
    outputs = {}
    for done, (kind, pool) in enumerate(found.items()):
        if pool.coins is None:
            examples = part_examples(problem)
        else:
            examples = paired_examples(problem, pools.pairs_of(plan))
        outputs[kind] = {
            part: ensemble_outputs(
                problem.model, pool.variables, some, noise_std=noise_std, seed=problem.seed
            )
            for part, some in examples.items()
        }
        on_done(done)
    # A method with membership models was trained against attacks on the same features.
    shares = getattr(plan.config, "membership", ()) and "features: outputs on the example itself"
    made = {
        kind: {"networks": len(pool.couples), "seconds": pool.seconds, "folder": pool.folder.name}
        for kind, pool in found.items()
    }
    return {"pools": made} | attack_ensembles(
        outputs,
        {kind: pool.coins for kind, pool in found.items() if pool.coins is not None},
        alpha=alpha,
        seed=problem.seed,
        shares=shares or "",
    )


def find_pools(plan: Plan, folder: Path) -> dict[str, Pool]:
    """Return the largest pool of every kind that belongs to the plan, by kind.

    Raises:
      InputError: there is none that an audit could compare with another one.
    """
    folder = folder.parent if (folder / "about.json").exists() else folder
    found: dict[str, Pool] = {}
    for kind in pools.KINDS:
        named = (path.name.split("-")[1] for path in folder.glob(f"{kind}-*-*"))
        sizes = sorted({int(size) for size in named if size.isdecimal()})
        enough = range(LEAST_NETWORKS, pools.MOST_NETWORKS + 1)
        for size in (size for size in reversed(sizes) if size in enough):
            entry = pools.pool_folder(plan, kind, size, folder)
            if (entry / "about.json").exists():
                found[kind] = pools.read_pool(plan, kind, size, folder)
                break
    if not {"retrain", "unlearned"} <= found.keys() and "shadow_unlearned" not in found:
        raise InputError(
            f"--pool {folder}: holds no pools of this run with at least {LEAST_NETWORKS} networks "
            f"a side (found {', '.join(found) or 'none'}); make them with "
            f"ltu pool --run RUN --pools {folder}"
        )
    return found
