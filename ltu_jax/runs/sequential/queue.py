"""The queue of requests that one deletion completes together: a SQLite file in the run's folder.

A request has a name, under which the ledger mentions it: a time and a random suffix. Before a
deletion begins, the requests that it completes and its folder are written down together, so that
the next call continues that deletion. They are deleted once its ledger names them. Requests may
overlap; an id is forgotten once.

Any number of processes may use a queue at once, on file systems with working locks; many network
file systems have none.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.paths as paths
import ltu_jax.runs.pipeline as pipeline
import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax.data.arrays import take_train
from ltu_jax.data.history import check_not_forgotten, remaining_rows
from ltu_jax.data.request import Request, by_ids, resolve
from ltu_jax.errors import InputError, few, warn
from ltu_jax.runs.folder import RunFolder, check_folder, make_folder
from ltu_jax.runs.loading import load_plan, load_spec, load_unfinished
from ltu_jax.runs.pipeline import Result
from ltu_jax.runs.plan import Plan
from ltu_jax.runs.sequential.earlier import dated
from ltu_jax.runs.sequential.unlearn_next import history_after, newest, unlearn_next
from ltu_jax.runs.spec import InMemory, as_dataset
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method

WAIT_SECONDS = 60.0  # for another process, which holds the queue for milliseconds
_TABLES = (
    "CREATE TABLE IF NOT EXISTS requests"
    " (name TEXT PRIMARY KEY, ids TEXT, newest TEXT, in_batch INTEGER)",
    "CREATE TABLE IF NOT EXISTS batch (out TEXT)",
)


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
    """Add a request to the queue of a run; ids that are pending already are noted in a warning.

    Args:
      run: the folder of a run; the ids are checked against the newest run of its sequence.
      ids: the ids, a file of them, or `by_ids`; the queue keeps the ids of the data set.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      method: the method, if it was made in Python.

    Returns:
      The request.

    Raises:
      InputError: an id is unknown or forgotten already, or the queue cannot be written.
    """
    folder = RunFolder(run)
    request = ids if isinstance(ids, Request) else by_ids(ids)
    if request.type != "ids":
        raise InputError("forget", f"is a {request.type}; a queue takes only ids", "list the ids")
    last = newest(folder)
    wanted = _remaining_ids(last, request, InMemory(data, model, method=method))
    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%fZ')}-{secrets.token_hex(4)}"
    with _transaction(folder) as queue:
        waiting = {one for pending in _pending(queue) for one in pending.ids}
        row = (name, json.dumps(wanted), _relative(folder, last), 0)
        queue.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", row)
    if again := [one for one in wanted if one in waiting]:
        message = f"{len(again)} of {len(wanted)} ids are pending already; they are forgotten once"
        warn(message, few(again))
    return Pending(name, wanted, False)


def _remaining_ids(folder: RunFolder, request: Request, objects: InMemory) -> list[str]:
    """Return the ids of the requested examples, out of what remains after a run."""
    plan = _plan(folder, objects)
    dataset, history = as_dataset(plan.spec, objects.data), history_after(folder, plan)
    total = len(dataset.train.labels)
    remaining = take_train(dataset, remaining_rows(history, total))
    with dated(folder, total):
        check_not_forgotten(request, dataset, remaining, history.forgotten)
    return remaining.train_ids[resolve(request, remaining)].tolist()


def show(run: str | os.PathLike) -> list[Pending]:
    """Return the pending requests of a run, the oldest first.

    Raises:
      InputError: the folder holds no run, or its queue is damaged.
    """
    load_spec(run)
    folder = RunFolder(run)
    if not folder.queue.exists():
        return []
    with _transaction(folder) as queue:
        return _pending(queue)


def remove(run: str | os.PathLike, request: str) -> Pending:
    """Take a request out of the queue of a run, and return it.

    Args:
      run: the folder of the run.
      request: name of the request, or the first characters of it.

    Raises:
      InputError: none or several pending requests have such a name, or a deletion that has begun
        completes it.
    """
    folder, waiting = RunFolder(run), show(run)
    found = [pending for pending in waiting if request and pending.name.startswith(request)]
    if len(found) != 1:
        problem = f"is {request!r}, which {len(found)} of {len(waiting)} pending requests match"
        raise InputError("request", problem, f"choose from {few(one.name for one in waiting)}")
    with _transaction(folder) as queue:
        begun = _batch(folder, queue)
        if found[0].in_batch and begun is not None and begun.spec.exists():
            problem = f"{found[0].name} is in the deletion that has begun in {begun}"
            raise InputError("request", problem, "complete it")
        queue.execute("DELETE FROM requests WHERE name = ?", found[0][:1])
        if not any(pending.in_batch for pending in _pending(queue)):
            queue.execute("DELETE FROM batch")
    return found[0]


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

    Ids that another deletion has forgotten since they were requested are left out.

    Args:
      run: the folder of the run whose queue it is.
      out: folder of the new run; None makes one, or takes that of the deletion that has begun.
      data: the data set, if it was made in Python.
      model: the model, if it was made in Python.
      method: the method, if it was made in Python.
      **options: further arguments of `unlearn_next`; a deletion that has begun keeps its own,
        except `quiet`.

    Returns:
      The result; None if the requests had been completed before and were only left to delete.

    Raises:
      InputError: nothing is pending, another process is completing the requests, or `unlearn_next`
        refuses the request.
      DivergedError: training or unlearning became NaN; the requests stay pending.
    """
    folder = RunFolder(run)
    objects = {"data": data, "model": model, "method": method}
    waiting, begun = show(run), None
    if waiting:
        with _transaction(folder) as queue:
            begun = _batch(folder, queue)
    if begun is None:
        return _begin(folder, waiting, out, objects, options)
    if out is not None and paths.local("out", out).resolve() != begun.path.resolve():
        raise InputError("out", f"is {out}, but a deletion has begun in {begun}", "leave `out` out")
    batch = [pending for pending in waiting if pending.in_batch]
    result = None
    if not begun.spec.exists():
        result = _unlearn(folder, batch, begun, objects, options)
    elif begun.is_unfinished():
        result = pipeline.resume(begun.path, **objects, quiet=options.get("quiet", False))
    delete_completed(folder, [pending.name for pending in batch], begun)
    return result


def _begin(
    folder: RunFolder,
    waiting: Sequence[Pending],
    out: str | os.PathLike | None,
    objects: dict[str, Any],
    options: dict[str, Any],
) -> Result | None:
    """Complete the pending requests in a new run; if that is refused, nothing changes."""
    if not waiting:
        raise InputError("run", f"{folder} has no pending request", "add a request first")
    if not _ids_of(folder, waiting, objects):
        _delete(folder, [pending.name for pending in waiting])
        return None
    check_folder(out)
    after = make_folder(out, f"{folder.path.resolve().name}-queue")
    with _transaction(folder) as queue:
        batch = _pending(queue)
        if _batch(folder, queue) is None and batch:
            queue.execute("UPDATE requests SET in_batch = 1")
            queue.execute("INSERT INTO batch VALUES (?)", [_relative(folder, after)])
        else:
            batch = []
    if not batch:
        _remove_if_empty(after)
        raise InputError("run", f"{folder}: another process took its requests", "see its queue")
    try:
        result = _unlearn(folder, batch, after, objects, options)
    except InputError:
        if _remove_if_empty(after):
            with _transaction(folder) as queue:
                queue.execute("UPDATE requests SET in_batch = 0")
                queue.execute("DELETE FROM batch")
        raise
    delete_completed(folder, [pending.name for pending in batch], after)
    return result


def _unlearn(
    folder: RunFolder,
    batch: Sequence[Pending],
    after: RunFolder,
    objects: dict[str, Any],
    options: dict[str, Any],
) -> Result:
    ids, names = _ids_of(folder, batch, objects), tuple(pending.name for pending in batch)
    return unlearn_next(newest(folder), ids, out=after, completed=names, **objects, **options)


def _ids_of(folder: RunFolder, batch: Sequence[Pending], objects: dict[str, Any]) -> list[str]:
    """Return each id of some requests once, without those forgotten since they were requested."""
    union = list(dict.fromkeys(one for pending in batch for one in pending.ids))
    last = newest(folder)
    with _transaction(folder) as queue:
        rows = queue.execute("SELECT DISTINCT newest FROM requests").fetchall()
    is_current = rows == [(_relative(folder, last),)]
    if is_current:
        return union
    plan = _plan(last, InMemory(**objects))
    remaining = np.delete(np.asarray(plan.dataset.train_ids), plan.split.forget)
    kept = set(remaining.tolist())
    return [one for one in union if one in kept]


def delete_completed(folder: RunFolder, names: Sequence[str], after: RunFolder) -> None:
    """Delete the requests that the ledger of `after` names, and the batch.

    Raises:
      InputError: the ledger does not name them.
    """
    if ledger.read(after)[-1]["completed"] != list(names):
        raise InputError(
            "run",
            f"{after} has not completed the requests that {folder.queue} names",
            "restore the folder, or remove the requests",
        )
    _delete(folder, names)


def _delete(folder: RunFolder, names: Sequence[str]) -> None:
    with _transaction(folder) as queue:
        queue.executemany("DELETE FROM requests WHERE name = ?", [(name,) for name in names])
        queue.execute("DELETE FROM batch")


def _remove_if_empty(folder: RunFolder) -> bool:
    """Delete an empty folder; return whether it was one."""
    is_empty = not any(folder.path.iterdir())
    if is_empty:
        folder.path.rmdir()
    return is_empty


def _plan(folder: RunFolder, objects: InMemory) -> Plan:
    """Return the plan of a run, finished or not."""
    load = load_unfinished if folder.is_unfinished() else load_plan
    return load(folder.path, objects)


def _relative(folder: RunFolder, other: RunFolder) -> str:
    return os.path.relpath(other.path.resolve(), folder.path.resolve())


def _pending(queue: sqlite3.Connection) -> list[Pending]:
    rows = queue.execute("SELECT name, ids, in_batch FROM requests ORDER BY name")
    return [Pending(name, json.loads(ids), bool(in_batch)) for name, ids, in_batch in rows]


def _batch(folder: RunFolder, queue: sqlite3.Connection) -> RunFolder | None:
    """Return the folder of the deletion that has begun, or None."""
    row = queue.execute("SELECT out FROM batch").fetchone()
    return row and RunFolder(os.path.normpath(folder.path / row[0]))


@contextmanager
def _transaction(folder: RunFolder) -> Iterator[sqlite3.Connection]:
    """Provide the queue to one process at a time; all changes are made or none.

    Raises:
      InputError: the file is damaged, cannot be written, or is held by another process.
      OSError: the disk is full.
    """
    path = folder.queue
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as queue:
            queue.execute("PRAGMA secure_delete = ON")  # answered ids are overwritten
            queue.execute("BEGIN IMMEDIATE")
            with queue:  # commits, or rolls back
                for table in _TABLES:
                    queue.execute(table)
                yield queue
    except (sqlite3.DatabaseError, OSError) as error:
        if "disk is full" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        problem = f"{path} cannot be used ({error})"
        raise InputError("run", problem, "restore the file, or file the requests again") from error
