"""Trained models kept by the digest of everything their training depends on."""

from __future__ import annotations

import json
from pathlib import Path

from ltu_jax.files import new_folder, write_json
from ltu_jax.runs.models import train_model, training_digest
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.plan_model import trace
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.types import TrainedModel


def cached_model(folder: Path, plan: Plan, name: str) -> TrainedModel:
    """Return `original`, `retrain` or `retrain_2` of a plan, trained now or read from the cache.

    Args:
      folder: cache folder, created where missing. Entries appear whole or not at all.
      plan: deletion; method and split matter only as far as the training depends on them.
      name: model to return.

    Raises:
      InputError: an entry of the cache is damaged.
    """
    entry = folder / training_digest(plan, name)
    if not entry.exists():
        trained = train_model(plan, name)
        with new_folder(entry) as part:
            export(part / "network", trained.variables)
            write_json(part / "about.json", {"seconds": trained.seconds, "name": name})
        return trained
    like = trace(plan.model, plan.dataset)
    variables = restore(entry / "network", like, argument="cache")
    about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
    return TrainedModel(variables, about["seconds"])
