"""The queue of requests that one deletion completes together: a file each in `RUN/queue`.

A file holds ids. Its name, under which the ledger mentions the request, is a time and a random
suffix. Before a deletion begins, `batch.json` names its requests and its folder, so that the next
call continues that deletion. The files are deleted once its ledger names the requests.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.files as files
import ltu_jax.paths as paths
import ltu_jax.runs.pipeline as pipeline
import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax.data.history import check_not_forgotten
from ltu_jax.data.request import Request, by_ids, resolve
from ltu_jax.errors import InputError, few
from ltu_jax.runs.folder import RunFolder, check_folder, make_folder
from ltu_jax.runs.loading import load_plan, load_spec, load_unfinished
from ltu_jax.runs.pipeline import Result
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.sequential.unlearn_next import newest, unlearn_next
from ltu_jax.runs.spec import InMemory
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method


class Pending(NamedTuple):
    """A request that is not completed yet.

    Attributes:
      name: its name in the ledger; starts with the time of filing (UTC).
      ids: the ids to forget.
      in_batch: whether a deletion that has begun will complete it.
    """

    name: str
    ids: list[str]
    in_batch: bool


def add(
    run: str | os.PathLike,
    ids: Request | str | os.PathLike | Iterable,
    *,
    data: Dataset | None = None,
    model: Model | None = None,
    method: Method | None = None,
) -> Pending:
    """Add a request to the queue of a run.

    Args:
      run: the folder of a run; the ids are checked against the newest run of its sequence.
      ids: the ids, a file of them, or `by_ids`.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      method: the method, if it was made in Python.

    Returns:
      The request.

    Raises:
      InputError: an id is unknown, forgotten already, pending already, or repeated.
    """
    folder = RunFolder(run)
    request = ids if isinstance(ids, Request) else by_ids(ids)
    if request.type != "ids":
        raise InputError("forget", f"is a {request.type}; a queue takes only ids", "list the ids")
    plan = _plan(newest(folder), InMemory(data, model, method=method))
    check_not_forgotten(request, np.asarray(plan.dataset.train_ids)[plan.split.forget])
    resolve(request, plan.dataset)
    waiting = {name for pending in show(run) for name in pending.ids}
    again = [name for name in request.value if name in waiting]
    if again:
        raise request.error(
            f"{len(again)} of {len(request.value)} ids are pending already: {few(again)}",
            "leave them out",
        )
    folder.queue.mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    name = f"{now}-{secrets.token_hex(4)}"
    files.create(folder.queue / f"{name}.json", json.dumps(request.value).encode(), mode=0o600)
    files.sync_folder(folder.path)
    return Pending(name, list(request.value), False)


def show(run: str | os.PathLike) -> list[Pending]:
    """Return the pending requests of a run, the oldest first.

    Raises:
      InputError: the folder holds no run, or a file of the queue is damaged.
    """
    load_spec(run)
    folder = RunFolder(run)
    batch = _batch(folder)
    in_batch = batch["requests"] if batch else []
    return [
        Pending(path.stem, _read(path), path.stem in in_batch)
        for path in sorted(folder.queue.glob("[0-9]*.json"))
    ]


def complete(
    run: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    data: Dataset | None = None,
    model: Model | None = None,
    method: Method | None = None,
    **options: Any,
) -> Result | None:
    """Complete all pending requests by one deletion, or continue the one that has begun.

    Args:
      run: the folder of the run whose queue it is.
      out: folder of the new run; None makes one, or takes that of the deletion that has begun.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      method: the method, if it was made in Python.
      **options: further arguments of `unlearn_next`; a deletion that has begun keeps its own,
        except `quiet`.

    Returns:
      The result; None if the deletion had finished before and only files were left to delete.

    Raises:
      InputError: nothing is pending, or `unlearn_next` refuses the request.
      DivergedError: training or unlearning became NaN; the requests stay pending.
    """
    folder = RunFolder(run)
    objects = {"data": data, "model": model, "method": method}
    waiting, batch = show(run), _batch(folder)
    if batch is None:
        return _begin(folder, waiting, out, objects | options)
    begun = RunFolder(os.path.normpath(folder.path / batch["out"]))
    if out is not None and paths.local("out", out).resolve() != begun.path.resolve():
        raise InputError("out", f"is {out}, but a deletion has begun in {begun}", "leave `out` out")
    result = None
    if not begun.spec.exists():
        result = _unlearn(folder, waiting, batch["requests"], begun, objects | options)
    elif begun.is_unfinished():
        result = pipeline.resume(begun.path, **objects, quiet=options.get("quiet", False))
    delete_completed(folder, batch["requests"], begun)
    return result


def _begin(
    folder: RunFolder,
    waiting: list[Pending],
    out: str | os.PathLike | None,
    options: dict[str, Any],
) -> Result:
    """Complete the pending requests in a new run; if that is refused, nothing changes."""
    if not waiting:
        raise InputError("run", f"{folder} has no pending request", "add a request first")
    check_folder(out)
    after = make_folder(out, f"{folder.path.resolve().name}-queue")
    names = [pending.name for pending in waiting]
    path = os.path.relpath(after.path.resolve(), folder.path.resolve())
    files.write(folder.batch, json.dumps({"out": path, "requests": names}).encode())
    try:
        result = _unlearn(folder, waiting, names, after, options)
    except InputError:
        if not any(after.path.iterdir()):
            folder.batch.unlink()
            after.path.rmdir()
        raise
    delete_completed(folder, names, after)
    return result


def _unlearn(
    folder: RunFolder,
    waiting: list[Pending],
    names: list[str],
    after: RunFolder,
    options: dict[str, Any],
) -> Result:
    ids = [pending.ids for pending in waiting if pending.name in names]
    if len(ids) != len(names):
        raise InputError(
            "run",
            f"{folder.queue} lacks {len(names) - len(ids)} of the requests that "
            f"{folder.batch.name} names",
            f"restore them, or delete {folder.batch} to go on without them",
        )
    union = [name for of_one in ids for name in of_one]
    return unlearn_next(newest(folder), union, out=after, completed=tuple(names), **options)


def delete_completed(folder: RunFolder, names: list[str], after: RunFolder) -> None:
    """Delete the files of requests that the ledger of `after` names, and then the batch.

    Raises:
      InputError: the ledger does not name them.
    """
    if ledger.read(after)[-1]["completed"] != names:
        raise InputError(
            "run",
            f"{after} has not completed the requests that {folder.batch} names",
            "delete that file to repeat the deletion",
        )
    for path in [
        *folder.queue.glob(f"{files.PART}*"),
        *(folder.queue / f"{n}.json" for n in names),
    ]:
        path.unlink(missing_ok=True)
    files.sync_folder(folder.queue)
    folder.batch.unlink()


def _plan(folder: RunFolder, objects: InMemory) -> Plan:
    """Return the plan of a run, finished or not."""
    load = load_unfinished if folder.is_unfinished() else load_plan
    return load(folder.path, objects)


def _batch(folder: RunFolder) -> dict[str, Any] | None:
    return _read(folder.batch) if folder.batch.exists() else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "run", f"{path} is damaged ({error})", "restore it, or file the request again"
        ) from error
