"""What is left of forgotten examples on the disk: in runs, ensembles and caches of models."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ltu_jax import files, paths
from ltu_jax.errors import InputError
from ltu_jax.runs import lock
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_spec
from ltu_jax.runs.models import REFERENCES
from ltu_jax.runs.sequential.queue import show
from ltu_jax.runs.sequential.unlearn_next import continued, newest
from ltu_jax.runs.spec import RunSpec

DELETE, STRIP, KEEP, OUTSIDE = "delete", "strip", "keep", "outside"
TRAINED = "a model that was trained on forgotten examples"
_CLEAN = ("retrain", "retrain_2", "shadow_retrain")  # types that never saw a forgotten example


class Item(NamedTuple):
    """A file or folder.

    Attributes:
      path: where it is.
      action: `delete`; `strip` (rewritten without forgotten examples); `keep`; `outside` (not this
        library's to delete).
      reason: what it holds.
    """

    path: Path
    action: str
    reason: str


def find(folder: str | os.PathLike, *, keep_rows: bool = False) -> list[Item]:
    """Return what a run, its sequence, or a folder of ensembles or cached models holds.

    Args:
      folder: of a run, of an ensemble, of ensembles, or of cached models.
      keep_rows: keep the files that name the forgotten rows, which the next request needs.

    Raises:
      InputError: the folder holds none of these, or an unfinished run.
    """
    path = paths.local("run", folder)
    if RunFolder(path).spec.exists():
        return list(_sequence(RunFolder(path), keep_rows))
    entries = [path] if (path / "about.json").exists() else sorted(path.glob("*/"))
    items = [item for entry in entries if (item := _trained(entry)) is not None]
    if not items:
        problem = f"{path} holds no run, ensemble or cached model"
        raise InputError("run", problem, "give a folder that the library wrote")
    return items


def _trained(entry: Path) -> Item | None:
    """Return the item of an ensemble or of a cached model; None for any other folder."""
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        name = about.get("type") or about["name"]
    except FileNotFoundError:
        unfinished = (entry / "parts").is_dir()
        return Item(entry, DELETE, "an unfinished ensemble") if unfinished else None
    except (OSError, ValueError, KeyError, AttributeError):
        return Item(entry, OUTSIDE, "about.json cannot be read; look into the folder yourself")
    if name in _CLEAN:
        return Item(entry, KEEP, "models that never saw the forget set")
    return Item(entry, DELETE, "models that were trained on the forget set")


def _sequence(folder: RunFolder, keep_rows: bool) -> Iterator[Item]:
    """Yield the items of all runs of a sequence, the newest first, and what lies outside."""
    last = newest(folder)
    runs = _with_earlier(last)
    for run in runs:
        if run.is_unfinished():
            lock.check_free(run.path, "run")
            problem = f"{run} holds an unfinished run"
            raise InputError("run", problem, "finish it with `resume`, or delete its folder")
        yield from _run(run, run.path == last.path, keep_rows)
    yield from _outside([load_spec(run) for run in runs])


def _with_earlier(run: RunFolder) -> list[RunFolder]:
    """Return a run and the runs before it, each of which names the next one as its successor.

    A copied run names the folder it was copied from as its parent. That one is never touched: the
    parent of a copy is a copy next to it.
    """
    runs = [run]
    while (checkpoint := load_spec(runs[0]).checkpoint) is not None:
        places = [Path(checkpoint).parent, *sorted(runs[0].path.parent.glob("*/"))]
        before = (RunFolder(place) for place in places if RunFolder(place).spec.exists())
        found = [one for one in before if _is_before(one, runs[0])]
        if not found or found[0].path in [one.path for one in runs]:
            break
        runs.insert(0, found[0])
    return runs[::-1]


def _is_before(run: RunFolder, later: RunFolder) -> bool:
    after = continued(run)
    return after is not None and after.path.resolve() == later.path.resolve()


def _run(run: RunFolder, is_last: bool, keep_rows: bool) -> Iterator[Item]:
    """Yield the items of a run; a later request may concern what an earlier one kept."""
    rows = (
        (KEEP, "names the forgotten rows; the next request needs it")
        if keep_rows
        else (DELETE, "names the forgotten rows")
    )
    later = (DELETE, f"{TRAINED} by a later request")
    known = {
        run.original: (DELETE, TRAINED),
        run.unlearned: (KEEP, "the result: parameters only") if is_last else later,
        **{
            run.model(name): (KEEP, "never saw the forget set") if is_last else later
            for name in REFERENCES
        },
        run.scores: (STRIP, "outputs on single examples, the forget set among them"),
        run.metrics: (STRIP, "losses of every step, on batches of the forget set too"),
        run.split: rows,
        run.history: rows,
        run.request: (DELETE, "unsalted SHA-256 of the forgotten ids"),
        run.tensorboard: (DELETE, "losses of every step"),
        run.path / "wandb": (DELETE, "losses of every step"),
        run.tuning: (DELETE, "losses of trials on the forget set"),
        run.queue: _queue(run),
        run.spec: (KEEP, "settings; unsalted SHA-256 of the forgotten ids"),
        run.report: (KEEP, "the report: aggregates"),
        run.page: (KEEP, "the report: aggregates"),
        run.figures: (KEEP, "the report: aggregates, histograms of the forget set"),
        run.audit: (KEEP, "the audit: aggregates"),
        run.ledger: (KEEP, "digests and a salted hash of the ids"),
        run.salts: (KEEP, "with a salt, guesses of the ids can be tested; secret, or delete it"),
        run.statements: (KEEP, "signed statements: aggregates and digests"),
        run.continued: (KEEP, "the path of the next run"),
    }
    yield from (Item(path, *what) for path, what in known.items() if path.exists())
    yield from (Item(path, DELETE, "left by a process that was killed") for path in run.unwritten())
    left = {*known, *run.unwritten(), run.path / lock.LOCK, run.path / lock.OWNER}
    for path in sorted({*run.path.iterdir()} - left):
        yield Item(path, OUTSIDE, "not a file of the library; look into it yourself")


def _queue(run: RunFolder) -> tuple[str, str]:
    if run.queue.exists() and (waiting := show(run)):
        return KEEP, f"ids of {len(waiting)} pending requests, which are not forgotten yet"
    return DELETE, "a queue without pending requests"


def _outside(specs: list[RunSpec]) -> Iterator[Item]:
    """Yield what the runs, the newest first, name outside their folders."""
    first = specs[-1]
    if "data" not in first.in_python:
        place = first.data_dir or first.data
        yield Item(Path(str(place)), OUTSIDE, "the data set, its copies and backups")
    if first.checkpoint is not None:
        reason = f"the starting checkpoint that was given: {TRAINED}"
        yield Item(Path(str(first.checkpoint)), OUTSIDE, reason)
    for spec in specs:
        shell = spec.command if spec.command.startswith("ltu ") else ""
        for flag, value in pairwise(shlex.split(shell)):
            if flag.startswith("-") and flag.strip("-").replace("_", "-") == "forget-ids":
                yield Item(Path(value), OUTSIDE, "a file of forgotten ids")


def digests(item: Item, root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an item by its path relative to `root`."""
    inside = [item.path] if item.path.is_file() else sorted(item.path.rglob("*"))
    return {
        Path(os.path.relpath(path, root)).as_posix(): files.digest(path.read_bytes())
        for path in inside
        if path.is_file()
    }
