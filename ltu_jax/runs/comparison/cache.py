"""Trained networks by the content they follow from, so that no network is trained twice."""

from __future__ import annotations

import json
from pathlib import Path

from ltu_jax.files import new_folder, write_json
from ltu_jax.runs.networks import train_network, training_digest
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan, trace
from ltu_jax.runs.progress import OnInfo
from ltu_jax.training.checkpoint import export, restore


def cached_network(folder: Path, plan: Plan, name: str, on_info: OnInfo | None = None) -> Network:
    """Return `original`, `retrain` or `retrain_2` of a plan, trained now or at an earlier time.

    Args:
      folder: of the cache; created where missing. Entries appear whole or not at all.
      plan: of a deletion; its method and split matter only as far as the training does.
      name: which network.
      on_info: called for every step of a training.

    Raises:
      InputError: an entry of the cache is damaged.
    """
    entry = folder / training_digest(plan, name)
    if not entry.exists():
        network = train_network(plan, name, on_info)
        with new_folder(entry) as part:
            export(part / "network", network.variables)
            write_json(part / "about.json", {"seconds": network.seconds, "name": name})
        return network
    like = trace(plan.model, plan.dataset)
    variables = restore(entry / "network", like, argument="cache")
    about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
    return TrainedModel(variables, about["seconds"])
