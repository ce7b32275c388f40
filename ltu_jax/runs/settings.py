"""A run, read back: what it takes to go on with it, to audit it again or to make pools for it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.data.history as pasts
import ltu_jax.data.request as requests
import ltu_jax.unlearners as unlearners
from ltu_jax.data.on_disk import content
from ltu_jax.errors import DamagedError, InputError
from ltu_jax.files import array_digest, read_checksummed, write_checksummed
from ltu_jax.runs.networks import RETRAINED
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan, as_dataset, make_plan, trace
from ltu_jax.runs.folder import SAVE_EVERY, Running, variables_digest
from ltu_jax.training.checkpoint import restore
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Dataset, Examples
from ltu_jax.unlearners.base import Method

SETTINGS = "run.json"


class Asked(NamedTuple):
    """What a run was asked for beside its plan; the fields are `pipeline.unlearn`'s.

    `served` names the queued requests that the run answers together.
    """

    command: str = "ltu_jax.unlearn(...)"
    trials: int | None = None
    select: str = "oracle_free"
    tensorboard: bool = False
    save_every: int = SAVE_EVERY
    devices: int | None = None
    wandb: str | None = None
    served: tuple[str, ...] = ()


_PLAIN = Asked()


def save_settings(
    plan: Plan,
    folder: Path,
    *,
    data: str | Dataset,
    model: Any,
    method: str | Method,
    data_dir: str | None,
    train_size: int | None,
    stream: bool = False,
    checkpoint: str | os.PathLike | None = None,
    asked: Asked = _PLAIN,
) -> None:
    """Write what the run was asked to do, all but the ids, to `run.json`.

    What was given as an object of Python's rather than by name is written as null; whoever reads
    the run back must give it again.
    """
    settings = {
        "data": data if isinstance(data, str) else None,
        "data_dir": None if data_dir is None else os.fspath(data_dir),
        "train_size": train_size,
        "stream": stream,
        "data_sha256": data_digest(plan.dataset.train),
        "model": plan.model.name if model is None else model if isinstance(model, str) else None,
        "method": method if isinstance(method, str) else None,
        "options": unlearners.changed_options(plan.method, plan.config),
        "only": plan.only,
        "method_recipe": _own_recipe(plan),
        "recipe": asdict(plan.recipe),
        "request": requests.describe(plan.request),
        "retain_fraction": plan.retain_fraction,
        "reference": plan.reference,
        "seed": int(plan.seed),
        "checkpoint": None if checkpoint is None else os.path.abspath(checkpoint),
        "checkpoint_sha256": None if plan.original is None else variables_digest(plan.original),
        **asked._asdict(),
    }
    write_checksummed(folder / SETTINGS, settings)


def save_request(plan: Plan, folder: Path) -> None:
    """Write what was asked (without ids) and the index sets that followed."""
    text = json.dumps(requests.describe(plan.request), indent=2)
    (folder / "request.json").write_text(text + "\n", encoding="utf-8")
    requests.save_split(folder / "split.npz", plan.split)


def load_plan(
    folder: str | os.PathLike,
    *,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
    argument: str = "RUN",
) -> Plan:
    """Return the plan of a finished run.

    Args:
      folder: of the run.
      data: the data set, where the run was given one made in Python.
      model: the network, likewise.
      method: the method, likewise.
      argument: the name that errors call the folder by.

    Raises:
      InputError: the folder holds no finished run, something made in Python is missing, or the
        data are no longer what they were.
    """
    folder = Path(folder)
    settings = read_settings(folder, "finished run", argument)
    if Running(folder).under_way():
        raise InputError(
            f"{argument} {folder}: holds an unfinished run; "
            f"finish it with ltu unlearn --resume {folder}"
        )
    given = {"data": data, "model": model, "method": method}
    return _plan(folder, settings, given, checkpoint=None)


def load_unfinished(
    folder: str | os.PathLike,
    *,
    data: Dataset | None = None,
    model: Any = None,
    method: Method | None = None,
) -> tuple[Plan, Asked]:
    """Return the plan of a run that was stopped, and what else it was asked for.

    Args:
      folder: of the run.
      data: as for `load_plan`, and so for the next two.
      model: the network.
      method: the method.

    Raises:
      InputError: the folder holds no run that was begun, or the run is finished; something made in
        Python is missing; data or checkpoint are no longer what they were.
    """
    folder = Path(folder)
    settings = read_settings(folder, "run that was begun", "--resume")
    if not Running(folder).under_way():
        raise InputError(
            f"--resume {folder}: is finished, see {folder / 'report.html'}; leave it as it is"
        )
    given = {"data": data, "model": model, "method": method}
    checkpoint = settings["checkpoint"]
    if checkpoint is None and settings["checkpoint_sha256"] is not None:
        checkpoint = folder / "original"  # where the network went that was given in memory
    plan = _plan(folder, settings, given, checkpoint=checkpoint)
    found = None if plan.original is None else variables_digest(plan.original)
    if found != settings["checkpoint_sha256"]:
        raise InputError(
            f"--checkpoint {checkpoint}: is another network than when the run was "
            "begun; give back the one it was"
        )
    return plan, Asked(**{name: settings[name] for name in Asked._fields if name in settings})


def save_chosen(plan: Plan, folder: Path) -> None:
    """Write the options that were chosen for the method into the settings of the run."""
    settings = read_checksummed(folder / SETTINGS)
    settings["options"] = unlearners.changed_options(plan.method, plan.config)
    write_checksummed(folder / SETTINGS, settings)


def read_settings(folder: Path, what: str, argument: str) -> dict[str, Any]:
    """Return what `save_settings` wrote; an `InputError` says that the folder holds no `what`."""
    try:
        return read_checksummed(folder / SETTINGS)
    except DamagedError as error:
        raise InputError(
            f"{argument} {folder}: holds no {what} ({error}); "
            "give the folder that ltu unlearn named"
        ) from error


def _plan(
    folder: Path, settings: dict[str, Any], given: dict[str, Any], checkpoint: str | None
) -> Plan:
    """Return the plan that the settings make, if the data are what they were."""
    for name, value in given.items():
        given[name] = value if settings[name] is None else settings[name]
        if given[name] is None:
            raise InputError(
                f"{folder}: its {name} was made in Python; read the run from there, and give "
                f"{name}="
            )
    stored, past = requests.load_split(folder / "split.npz"), pasts.load(folder)
    found = unlearners.find(given["method"])
    config = unlearners.configure(found, settings["options"])
    if settings.get("method_recipe"):
        config = replace(config, recipe=Recipe(**settings["method_recipe"]))
    where = {name: settings.get(name) for name in ("data_dir", "train_size", "seed", "stream")}
    dataset = as_dataset(given["data"], **where)
    plan = make_plan(
        dataset,
        _request(settings["request"], stored.forget, past, dataset),
        model=given["model"],
        method=found,
        config=config,
        only=None if settings.get("only") is None else set(settings["only"]).__contains__,
        checkpoint=checkpoint,
        retain_fraction=settings["retain_fraction"],
        reference=settings["reference"],
        recipe=Recipe(**settings["recipe"]),
        epochs=None,
        seed=settings["seed"],
        past=past,
    )
    same_split = all(np.array_equal(a, b) for a, b in zip(plan.split, stored, strict=True))
    if data_digest(plan.dataset.train) != settings["data_sha256"] or not same_split:
        raise InputError(
            f"{folder}: --data {plan.dataset.name} gives other examples than when the run was "
            "made; an audit needs the same"
        )
    return plan


def load_networks(folder: str | os.PathLike, plan: Plan) -> dict[str, TrainedModel]:
    """Return the networks of a run by the names that its report gives them.

    Raises:
      InputError: a checkpoint is damaged, or the original or the unlearned one is missing.
    """
    like = trace(plan.model, plan.dataset)
    wanted = {"original": "original"} | {
        name: name for name in RETRAINED if (Path(folder) / name).exists()
    }
    wanted[plan.method.name] = "unlearned"
    return {
        name: TrainedModel(restore(Path(folder) / part, like, argument="RUN"), float("nan"))
        for name, part in wanted.items()
    }


def _own_recipe(plan: Plan) -> dict[str, Any] | None:
    """Return the recipe of a method that was given another one than the references'."""
    recipe = getattr(plan.config, "recipe", None)
    return None if recipe in (None, plan.recipe) else asdict(recipe)


def data_digest(examples: Examples) -> str:
    """Return the SHA-256 of inputs and labels."""
    return array_digest({"inputs": content(examples.inputs), "labels": examples.labels})


def _request(
    described: dict[str, Any], forget: np.ndarray, past: pasts.Past | None, dataset: Dataset
) -> requests.Request:
    """Return the request; ids are kept nowhere but in the split, as places in the data set."""
    kind = described["kind"]
    if kind == "class":
        return requests.by_class(described["value"])
    if kind == "group":
        return requests.by_group(described["column"], described["value"])
    if kind == "fraction":
        return requests.by_fraction(described["fraction"], seed=described["seed"])
    rows = pasts.remaining_rows(past, len(dataset.train.labels))[forget]
    return requests.by_ids(np.asarray(dataset.train_ids)[rows].tolist())
