"""Deletion of files that hold or derive from forgotten examples, with a record that proves it.

The record, `statements/files-0001.json`, is an in-toto statement: its subjects are the deleted
files by their digests before, its predicate lists what was rewritten (digests before and after),
what was kept and why, and what can no longer be done. With a key it is signed. It is written before
anything is deleted, so that a process that dies leaves no deletion without a record.
"""

from __future__ import annotations

import io
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltu_jax import files, paths
from ltu_jax.errors import InputError
from ltu_jax.files import json_text
from ltu_jax.runs import lock
from ltu_jax.runs.evidence import signing
from ltu_jax.runs.evidence.forgotten_files import DELETE, KEEP, OUTSIDE, STRIP, Item, digests, find
from ltu_jax.runs.evidence.statement import STATEMENT_TYPE, check_valid
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.sequential.unlearn_next import newest

FILES_TYPE = "https://github.com/ltu-jax/ltu_jax/files-deleted/v1"


class Forgotten(NamedTuple):
    """What `forget_files` found and did.

    Attributes:
      items: every file and folder, with what is done to it.
      no_longer: what cannot be done after the deletion, one sentence each.
      record: the file of the record; None if nothing was deleted.
    """

    items: list[Item]
    no_longer: list[str]
    record: Path | None


def forget_files(
    run: str | os.PathLike,
    *,
    delete: bool = False,
    keep_rows: bool = False,
    key: str | os.PathLike | None = None,
) -> Forgotten:
    """List all files that hold or derive from forgotten examples; delete them if asked to.

    Deleting does not overwrite: disks, snapshots and backups may keep old content.

    Args:
      run: folder of a run, whose whole sequence is covered, of ensembles, or of cached models.
      delete: delete and rewrite files; without it nothing changes.
      keep_rows: keep `split.npz` and `history.npz`, which the next request of the sequence needs.
      key: file of the private key that signs the record; None leaves it unsigned.

    Raises:
      InputError: the folder holds nothing of this library or an unfinished run, another process
        uses it, or the key cannot be used; nothing was deleted.
      OSError: a file cannot be deleted; repeat the call to continue.
    """
    if key is not None and not delete:
        raise InputError("key", "signs the record of a deletion", "give `delete` as well")
    signer = None if key is None else signing.read_signer(key)
    items = find(run, keep_rows=keep_rows)
    is_run = RunFolder(run).spec.exists()
    root = newest(run).path if is_run else paths.local("run", run)
    no_longer = _no_longer(items) if is_run else ["Audits that need the deleted ensembles."]
    changed = [item for item in items if item.action in (DELETE, STRIP)]
    if not delete:
        return Forgotten(items, no_longer, None)
    with ExitStack() as claims:
        runs = {item.path.parent for item in changed if RunFolder(item.path.parent).spec.exists()}
        for folder in sorted(runs) if is_run else [root]:
            claims.enter_context(lock.claim(folder, "run"))
        stripped = {item.path: _stripped(item.path) for item in items if item.action == STRIP}
        stripped = {p: data for p, data in stripped.items() if data != p.read_bytes()}
        if not stripped and not any(item.action == DELETE for item in items):
            return Forgotten(items, no_longer, None)
        statement = _statement(items, stripped, no_longer, root)
        record = _write_record(root / "statements", statement, signer)
        for path, data in stripped.items():
            files.write(path, data)
        # A repeated call finds the earlier runs of a sequence only while there is a history.
        for item in sorted(
            changed, key=lambda item: item.path.name == RunFolder(root).history.name
        ):
            if item.action == DELETE:
                is_folder = item.path.is_dir() and not item.path.is_symlink()
                shutil.rmtree(item.path) if is_folder else item.path.unlink()
    return Forgotten(items, no_longer, record)


def _stripped(path: Path) -> bytes:
    """Return what is kept of `scores.npz`, and nothing of `metrics.jsonl`."""
    if path.name != RunFolder(path.parent).scores.name:
        return b""
    is_last, content = newest(path.parent).path == path.parent, io.BytesIO()
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files if _is_kept(name, is_last)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problem = f"{path} cannot be read ({type(error).__name__})"
        raise InputError("run", problem, "restore or delete the file") from error
    np.savez_compressed(content, **kept)
    return content.getvalue()


def _is_kept(name: str, is_last: bool) -> bool:
    """Whether scores are of no forgotten example; later requests take from earlier retain sets."""
    part = name.partition("/")[2].partition("_")[0]
    return part == "test" or (is_last and part != "forget")


def _statement(
    items: Sequence[Item], stripped: dict[Path, bytes], no_longer: list[str], root: Path
) -> dict[str, Any]:
    """Return the record of a deletion that is about to begin."""
    deleted: dict[str, str] = {}
    for item in items:
        if item.action == DELETE:
            deleted |= digests(item, root)
    rewritten = [
        {
            "name": Path(os.path.relpath(path, root)).as_posix(),
            "before": files.digest(path.read_bytes()),
            "after": files.digest(data),
        }
        for path, data in stripped.items()
    ]
    subjects = {**deleted, **{one["name"]: one["before"] for one in rewritten}}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in subjects.items()],
        "predicateType": FILES_TYPE,
        "predicate": {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "deleted": sorted(deleted),
            "rewritten": rewritten,
            "kept": _reasons(items, KEEP, root),
            "outside": _reasons(items, OUTSIDE, root),
            "no_longer": no_longer,
        },
    }


def _reasons(items: Iterable[Item], action: str, root: Path) -> list[dict[str, str]]:
    return [
        {"name": _shown(item, root), "reason": item.reason}
        for item in items
        if item.action == action
    ]


def _shown(item: Item, root: Path) -> str:
    """Return an item's path, relative to the folder unless it is outside."""
    if item.action == OUTSIDE:
        return str(item.path)
    return Path(os.path.relpath(item.path, root)).as_posix()


def _write_record(folder: Path, statement: dict[str, Any], signer: Any) -> Path:
    """Write the record under the first free number; signed if there is a signer."""
    number = 1 + len(list(folder.glob("files-*.json")))
    path = folder / f"files-{number:04d}.json"
    if signer is None:
        files.create(path, json_text(statement).encode())
    else:
        check_valid(statement)
        files.create(path, signing.seal(statement, signer))
    return path


def _no_longer(items: Sequence[Item]) -> list[str]:
    """Return what a run cannot do without what is deleted."""
    gone = {item.path.name for item in items if item.action == DELETE}
    lost = [
        "`ltu verify` computes only RA and TA of the report: the scores of the forget set are not "
        "there."
    ]
    if "original" in gone:
        lost.append(
            "`ltu audit`, and `ltu verify` from the checkpoints: they need the starting checkpoint."
        )
    if "split.npz" in gone:
        lost.append("No request can follow in this sequence: it needs the rows forgotten before.")
    if "unlearned" in gone:
        lost.append(
            "The ledgers of earlier runs cannot be verified alone; the newest run's holds their "
            "entries."
        )
    return lost
