"""A run read back from its folder: its plan and its models."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

import ltu_jax.data.history as histories
import ltu_jax.data.request as requests
from ltu_jax.data.on_disk import content
from ltu_jax.errors import DamagedError, InputError
from ltu_jax.files import array_digest, read_checksummed, write_checksummed, write_json
from ltu_jax.runs import lock
from ltu_jax.runs.folder import RunFolder, variables_digest
from ltu_jax.runs.models import REFERENCES
from ltu_jax.runs.plan import Plan, make_plan
from ltu_jax.runs.plan_model import trace
from ltu_jax.runs.spec import NO_OBJECTS, InMemory, RunSpec, as_dataset
from ltu_jax.training.checkpoint import restore
from ltu_jax.types import Dataset, Examples, TrainedModel


def save_plan(plan: Plan, folder: RunFolder) -> None:
    """Write the specification, the request (without ids) and the split of a new run.

    `run.json` comes last: a folder without it holds no run.
    """
    request = requests.describe(plan.request)
    write_json(folder.request, request)
    requests.save_split(folder.split, plan.split)
    original = None if plan.original is None else variables_digest(plan.original)
    described = {
        "spec": plan.spec.to_json(),
        "request": request,
        "data_sha256": data_digest(plan.dataset.train),
        "original_sha256": original,
    }
    write_checksummed(folder.spec, described)


def save_options(plan: Plan, folder: RunFolder) -> None:
    """Write tuned options into the specification of a run."""
    described = read_checksummed(folder.spec)
    described["spec"]["options"] = plan.spec.to_json()["options"]
    write_checksummed(folder.spec, described)


def load_spec(run: str | os.PathLike) -> RunSpec:
    """Return the specification of a run, finished or not.

    Raises:
      InputError: the folder holds no run, or one of an earlier version of the library.
    """
    return _read(RunFolder(run))[0]


def load_plan(run: str | os.PathLike, objects: InMemory = NO_OBJECTS) -> Plan:
    """Return the plan of a finished run.

    Args:
      run: the folder of the run.
      objects: the arguments of the run that were made in Python.

    Raises:
      InputError: the folder holds no finished run, an object is missing, or the data have changed.
    """
    folder = RunFolder(run)
    spec, described = _read(folder)
    if folder.is_unfinished():
        lock.check_free(folder.path, "run")
        raise InputError("run", f"{folder} holds an unfinished run", "finish it with `resume`")
    return _plan(folder, replace(spec, checkpoint=None, retrain=None), described, objects)


def load_unfinished(run: str | os.PathLike, objects: InMemory = NO_OBJECTS) -> Plan:
    """Return the plan of a run that was stopped; arguments as for `load_plan`.

    Raises:
      InputError: the folder holds no unfinished run, an object is missing, or the data or the
        checkpoint have changed.
    """
    folder = RunFolder(run)
    spec, described = _read(folder)
    if not folder.is_unfinished():
        raise InputError("run", f"{folder} is finished", f"see {folder.page}")
    if "params" in spec.in_python:
        spec = replace(spec, checkpoint=str(folder.original))  # its copy of the given parameters
    plan = _plan(folder, spec, described, objects)
    found = None if plan.original is None else variables_digest(plan.original)
    if found != described["original_sha256"]:
        raise InputError(
            "checkpoint",
            f"{spec.checkpoint} has changed since the run started",
            "restore the original folder",
        )
    return plan


def load_models(run: str | os.PathLike, plan: Plan) -> dict[str, TrainedModel]:
    """Return the models of a finished run: `original`, `unlearned`, and references if any.

    Raises:
      InputError: a checkpoint is damaged, or `original` or `unlearned` is missing.
    """
    folder, like = RunFolder(run), trace(plan.model, plan.dataset)
    references = [name for name in REFERENCES if folder.model(name).exists()]
    return {
        name: TrainedModel(restore(folder.model(name), like, argument="run"), float("nan"))
        for name in ("original", *references, "unlearned")
    }


def data_digest(examples: Examples) -> str:
    """Return the SHA-256 of inputs and labels."""
    return array_digest({"inputs": content(examples.inputs), "labels": examples.labels})


def _read(folder: RunFolder) -> tuple[RunSpec, dict[str, Any]]:
    """Return the specification, and everything that `save_plan` wrote."""
    try:
        described = read_checksummed(folder.spec)
        return RunSpec.from_json(described["spec"]), described
    except DamagedError as error:
        raise InputError(
            "run", f"{folder} holds no run ({error})", "give a folder that a run wrote"
        ) from error
    except (KeyError, TypeError) as error:
        raise InputError(
            "run",
            f"{folder} was written by another version of ltu_jax",
            "repeat the deletion with this version",
        ) from error


def _plan(folder: RunFolder, spec: RunSpec, described: dict[str, Any], objects: InMemory) -> Plan:
    """Return the plan of a run, if the data are what they were."""
    trains = ("retrain",) if folder.is_unfinished() else ()  # finished models are read
    for name in ("data", "model", "method", *trains):
        if name in spec.in_python and getattr(objects, name) is None:
            raise InputError(
                name, f"was made in Python for the run {folder}", f"give {name}= from Python"
            )
    stored, history = requests.load_split(folder.split), histories.load_history(folder.history)
    dataset = as_dataset(spec, objects.data)
    request = _request(described["request"], stored.forget, history, dataset)
    given = InMemory(dataset, objects.model, method=objects.method, retrain=objects.retrain)
    whole = replace(spec, data=None, train_size=None, stream=False)
    plan = make_plan(whole, request, given, history=history)
    plan = plan._replace(spec=spec)
    same_split = all(np.array_equal(a, b) for a, b in zip(plan.split, stored, strict=True))
    if data_digest(plan.dataset.train) != described["data_sha256"] or not same_split:
        raise InputError(
            "data",
            f"{plan.dataset.name} gives other examples than when {folder} was written",
            "restore the data set",
        )
    return plan


def _request(
    described: dict[str, Any],
    forget: np.ndarray,
    history: histories.DeletionHistory | None,
    dataset: Dataset,
) -> requests.Request:
    """Return the request of a run; ids and values are stored only as rows, in the split."""
    request_type = described["type"]
    if request_type == "class":
        return requests.by_class(name=described["value"])
    if request_type == "fraction":
        return requests.by_fraction(described["fraction"], seed=described["seed"])
    rows = histories.remaining_rows(history, len(dataset.train.labels))[forget]
    stored = requests.Request(request_type, (), described.get("column"))
    return requests.as_selected(stored, dataset, rows)
