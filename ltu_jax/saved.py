"""A finished run, read back: what it takes to audit it again, or to make pools for it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

import ltu_jax.request as requests
import ltu_jax.unlearners as unlearners
from ltu_jax.errors import InputError
from ltu_jax.networks import RETRAINED, Network, row_name
from ltu_jax.plan import Plan, as_dataset, make_plan, trace
from ltu_jax.report.write import write_json
from ltu_jax.training.checkpoint import restore
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Dataset, Examples, Model
from ltu_jax.unlearners.base import Method

SETTINGS = "run.json"


def save_settings(
    plan: Plan,
    folder: Path,
    *,
    data: str | Dataset,
    model: str | Model | None,
    method: str | Method,
    data_dir: str | None,
    train_size: int | None,
) -> None:
    """Write what the run was asked to do, all but the ids, to `run.json`.

    What was given as an object of Python's rather than by name is written as null; whoever reads
    the run back must give it again.
    """
    settings = {
        "data": data if isinstance(data, str) else None,
        "data_dir": None if data_dir is None else os.fspath(data_dir),
        "train_size": train_size,
        "data_sha256": data_digest(plan.dataset.train),
        "model": None if isinstance(model, Model) else (model or plan.model.name),
        "method": method if isinstance(method, str) else None,
        "options": changed_options(plan.method, plan.config),
        "recipe": asdict(plan.recipe),
        "request": requests.describe(plan.request),
        "retain_fraction": plan.retain_fraction,
        "reference": plan.reference,
        "seed": int(plan.seed),
    }
    # An option may be infinite, which strict JSON cannot say.
    write_json(folder / SETTINGS, settings, strict=False)


def load_plan(
    folder: str | os.PathLike,
    *,
    data: Dataset | None = None,
    model: Model | None = None,
    method: Method | None = None,
) -> Plan:
    """Return the plan of a finished run.

    Args:
      folder: of the run.
      data: the data set, where the run was given one made in Python.
      model: the network, likewise.
      method: the method, likewise.

    Raises:
      InputError: the folder holds no finished run, something made in Python is missing, or the
        data are no longer what they were.
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: holds no finished run ({SETTINGS}: {error}); give the folder that "
            "ltu unlearn named"
        ) from error
    given = {"data": data, "model": model, "method": method}
    for name, value in given.items():
        given[name] = value if settings[name] is None else settings[name]
        if given[name] is None:
            raise InputError(
                f"{folder}: its {name} was made in Python; read the run from there, and give "
                f"{name}="
            )
    stored = requests.load_split(folder / "split.npz")
    found = unlearners.find(given["method"])
    plan = make_plan(
        given["data"],
        _request(settings["request"], stored.forget, given["data"], settings),
        model=given["model"],
        method=found,
        config=unlearners.configure(found, settings["options"]),
        checkpoint=None,
        retain_fraction=settings["retain_fraction"],
        reference=settings["reference"],
        recipe=Recipe(**settings["recipe"]),
        epochs=None,
        seed=settings["seed"],
        data_dir=settings["data_dir"],
        train_size=settings["train_size"],
    )
    same_split = all(np.array_equal(a, b) for a, b in zip(plan.split, stored, strict=True))
    if data_digest(plan.dataset.train) != settings["data_sha256"] or not same_split:
        raise InputError(
            f"{folder}: --data {plan.dataset.name} gives other examples than when the run was "
            "made; an audit needs the same"
        )
    return plan


def load_networks(folder: str | os.PathLike, plan: Plan) -> dict[str, Network]:
    """Return the networks of a run by the names that its report gives them.

    Raises:
      InputError: a checkpoint is damaged, or the original or the unlearned one is missing.
    """
    like = trace(plan.model, plan.dataset)
    wanted = {"original": "original"} | {
        name: name for name in RETRAINED if (Path(folder) / name).exists()
    }
    wanted[row_name(plan.method.name)] = "unlearned"
    return {
        name: Network(restore(Path(folder) / part, like, argument="RUN"), float("nan"))
        for name, part in wanted.items()
    }


def changed_options(method: Method, config: Any) -> dict[str, Any]:
    """Return the options that are not the method's defaults; a run's recipe is no option."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: value
        for name, value in values.items()
        if value != getattr(method.config, name) and not isinstance(value, Recipe)
    }


def data_digest(examples: Examples) -> str:
    """Return the SHA-256 of inputs and labels."""
    content = hashlib.sha256()
    for array in examples:
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _request(
    described: dict[str, Any], forget: np.ndarray, data: str | Dataset, settings: dict[str, Any]
) -> requests.Request:
    """Return the request; ids are kept nowhere but in the split, as places in the data set."""
    kind = described["kind"]
    if kind == "class":
        return requests.by_class(described["value"])
    if kind == "group":
        return requests.by_group(described["column"], described["value"])
    if kind == "fraction":
        return requests.by_fraction(described["fraction"], seed=described["seed"])
    dataset = as_dataset(data, settings["data_dir"], settings["train_size"], settings["seed"])
    return requests.by_ids(np.asarray(dataset.train_ids)[forget].tolist())
