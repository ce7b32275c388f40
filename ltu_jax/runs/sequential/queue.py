"""Requests that wait to be answered together: one file each in `RUN/queue`, gone once served.

A file holds ids; its name, under which the ledger mentions the request, is a time and chance.
Before a deletion begins, `batch.json` says which requests it answers and in which folder. Whatever
happens in between, the next call goes on with that deletion; only when it is finished, and its
ledger names the requests, are their files deleted.
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

import ltu_jax.files as durable
import ltu_jax.runs.sequential.ledger as ledger
import ltu_jax.data.history as pasts
import ltu_jax.runs.pipeline as pipeline
import ltu_jax.runs.settings as saved
from ltu_jax.errors import InputError, few
from ltu_jax.runs.pipeline import Result
from ltu_jax.runs.plan import Plan, check_folder, make_folder
from ltu_jax.data.request import Request, by_ids, resolve
from ltu_jax.runs.folder import Running
from ltu_jax.runs.sequential.unlearn_next import newest, unlearn_next
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method

FOLDER, BATCH = "queue", "batch.json"


class Pending(NamedTuple):
    """A request that is not served yet.

    Attributes:
      name: as the ledger will call it; starts with the time of filing (UTC).
      ids: whom it asks to forget.
      in_batch: whether a deletion that was begun answers it.
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
    """File a request with the queue of a run.

    Args:
      run: folder of a run; the ids are checked against the newest run of its chain.
      ids: the ids, or a file of them, or `by_ids`.
      data: the data set, where the run was given one made in Python; so for the next two.
      model: the network.
      method: the method.

    Returns:
      The request as it was filed.

    Raises:
      InputError: an id is unknown, forgotten already, pending already, or there twice.
    """
    run = Path(run)
    request = ids if isinstance(ids, Request) else by_ids(ids)
    if request.kind != "ids":
        raise InputError(f"--forget-{request.kind}: a queue takes ids alone; give their list")
    plan = _plan(newest(run), {"data": data, "model": model, "method": method})
    _check(request, plan)
    waiting = {name for one in show(run) for name in one.ids}
    again = [name for name in request.value if name in waiting]
    if again:
        raise request.error(
            f"{len(again)} of {len(request.value)} ids are pending already: {few(again)}; "
            "leave them out"
        )
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    name = f"{now}-{secrets.token_hex(4)}"
    durable.create(folder / f"{name}.json", json.dumps(request.value).encode(), mode=0o600)
    durable.sync_folder(run)
    return Pending(name, list(request.value), False)


def show(run: str | os.PathLike) -> list[Pending]:
    """Return what waits in the queue of a run, the oldest request first.

    Raises:
      InputError: the folder is no run, or a file of the queue is damaged.
    """
    run = Path(run)
    saved.read_settings(run, "run", "RUN")
    batch = _batch(run)
    named = batch["requests"] if batch else []
    return [
        Pending(path.stem, _read(path), path.stem in named)
        for path in sorted((run / FOLDER).glob("[0-9]*.json"))
    ]


def serve(
    run: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    data: Dataset | None = None,
    model: Model | None = None,
    method: Method | None = None,
    **options: Any,
) -> Result | None:
    """Answer all pending requests by one deletion, or go on with the one that was begun.

    Args:
      run: folder of the run whose queue it is.
      out: folder of the new run; None takes a fresh one, or that of the deletion that was begun.
      data: as for `add`, and so for the next two.
      model: the network.
      method: the method.
      **options: further arguments of `sequential.unlearn_next`; those of a deletion that was begun
        stay what they were, but for `quiet`.

    Returns:
      The result; None if the deletion was finished before, and only files were left to delete.

    Raises:
      InputError: nothing is pending, or what `unlearn_next` refuses.
      DivergedError: training or unlearning became NaN; the requests stay pending.
    """
    run, given = Path(run), {"data": data, "model": model, "method": method}
    waiting, batch = show(run), _batch(run)
    if batch is None:
        return _begin(run, waiting, out, given | options)
    folder = Path(os.path.normpath(run / batch["out"]))
    if out is not None and Path(out).resolve() != folder.resolve():
        raise InputError(
            f"--out {out}: a deletion for this queue was begun in {folder}; leave --out away"
        )
    result = None
    if not (folder / saved.SETTINGS).exists():
        result = _answer(run, waiting, batch["requests"], folder, given | options)
    elif Running(folder).under_way():
        result = pipeline.resume(folder, **given, quiet=options.get("quiet", False))
    _delete_served(run, batch["requests"], folder)
    return result


def _begin(
    run: Path, waiting: list[Pending], out: str | os.PathLike | None, options: dict[str, Any]
) -> Result:
    """Answer what is waiting in a new run; if that is refused, all is as it was."""
    if not waiting:
        raise InputError(
            f"RUN {run}: no request is pending; file one with ltu queue add {run} --forget-ids FILE"
        )
    check_folder(out)
    folder = make_folder(out, f"{run.resolve().name}-queue")
    names = [one.name for one in waiting]
    batch = {"out": os.path.relpath(folder.resolve(), run.resolve()), "requests": names}
    durable.write(run / FOLDER / BATCH, json.dumps(batch).encode())
    try:
        result = _answer(run, waiting, names, folder, options)
    except InputError:
        if not any(folder.iterdir()):
            (run / FOLDER / BATCH).unlink()
            folder.rmdir()
        raise
    _delete_served(run, names, folder)
    return result


def _answer(
    run: Path, waiting: list[Pending], names: list[str], folder: Path, options: dict[str, Any]
) -> Result:
    ids = [one.ids for one in waiting if one.name in names]
    if len(ids) != len(names):
        raise InputError(
            f"{run / FOLDER}: {len(names) - len(ids)} of the requests that {BATCH} names are gone; "
            f"restore them, or delete {BATCH} to go on without them"
        )
    union = [name for of_one in ids for name in of_one]
    return unlearn_next(newest(run), union, out=folder, served=tuple(names), **options)


def _delete_served(run: Path, names: list[str], folder: Path) -> None:
    """Delete the files of requests that the ledger says were served, and then the batch."""
    if ledger.read(folder)[-1]["served"] != names:
        raise InputError(
            f"RUN {run}: {folder} has not answered the requests that {BATCH} names; "
            f"delete {run / FOLDER / BATCH} to have them answered anew"
        )
    queue = run / FOLDER
    for path in [*queue.glob(f"{durable.PART}*"), *(queue / f"{name}.json" for name in names)]:
        path.unlink(missing_ok=True)
    durable.sync_folder(queue)
    (queue / BATCH).unlink()


def _check(request: Request, plan: Plan) -> None:
    """Raise `InputError` unless the ids can be forgotten after the plan's own deletion."""
    earlier = np.asarray(plan.dataset.train_ids)[plan.split.forget]
    pasts.check_not_forgotten(request, earlier)
    resolve(request, plan.dataset)


def _plan(run: Path, given: dict[str, Any]) -> Plan:
    """Return the plan of a run, finished or not."""
    if Running(run).under_way():
        return saved.load_unfinished(run, **given)[0]
    return saved.load_plan(run, **given)


def _batch(run: Path) -> dict[str, Any] | None:
    path = run / FOLDER / BATCH
    return _read(path) if path.exists() else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); restore it or file it again") from error
