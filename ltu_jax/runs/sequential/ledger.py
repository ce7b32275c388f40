"""The ledger of a model's deletions: what was forgotten, when, and from which model.

`RUN/ledger.jsonl` has one line of JSON per deletion, the first deletion first. Each entry holds the
SHA-256 of the entry before it and its own, over a canonical form of JSON. So every byte that is
changed, deleted or inserted is found, and so is a line that is missing, repeated or out of place.
An entry names the models before and after by the SHA-256 of their arrays. The models in the run's
folder must be those of its last entry.

Limits:

* The ledger itself is not signed. An attacker who can write to the folder can forge a whole ledger,
  with models and report to match. Sign it (`runs.evidence.sign`), or keep the newest entry's
  SHA-256, which the report names, where the attacker cannot write, and compare with
  `verify(..., head=...)`.
* A ledger whose last entries were cut off is valid in itself. The loss is found because
  `RUN/unlearned` and `report.json` then disagree with the last entry, unless both were reset too.
* It records that a deletion was done, not that it worked.

Privacy: an entry holds the number of ids, an HMAC-SHA256 of their sorted list, keyed by 32 random
bytes, and the SHA-256 of that salt. The salts are in `RUN/ledger.salts.json`, so the ledger alone
reveals no id. With a salt one can test guesses: one id of 50,000 takes 50,000 guesses. Protect that
file like the ids, or delete it; after that no list of ids can be shown to be the forgotten one. A
salt that was changed is found by `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ltu_jax.files as files
from ltu_jax.errors import InputError, TamperedError
from ltu_jax.runs.folder import RunFolder
from ltu_jax.training import orbax_paths

NO_ENTRY = "0" * 64  # what the first entry names as the one before it
FIELDS = (
    "entry",
    "previous",
    "time",
    "parent",
    "child",
    "forgotten",
    "completed",
    "method",
    "options",
    "seed",
    "metrics",
    "drift",
    "versions",
    "sha256",
)

Entry = dict[str, Any]


def read(run: str | os.PathLike) -> list[Entry]:
    """Return the entries of a run's ledger, the first deletion first.

    Raises:
      InputError: there is no ledger.
      TamperedError: it is not what was written; names the first wrong entry.
    """
    folder = RunFolder(run)
    try:
        lines = folder.ledger.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            "run",
            f"{folder} has no readable {folder.ledger.name} ({error.strerror})",
            "give the folder of a finished run",
        ) from error
    entries: list[Entry] = []
    try:
        if lines.pop():
            raise ValueError(f"entry {len(lines) + 1}: its line has no end")
        if not lines:
            raise ValueError("no entry is left")
        for line in lines:
            entries.append(_next_entry(line, entries))
    except ValueError as error:
        raise TamperedError(
            "run", f"{folder.ledger} was edited: {error}", "restore it from a copy"
        ) from error
    return entries


def append(
    run: str | os.PathLike,
    content: Mapping[str, Any],
    ids: Iterable[str],
    *,
    before: str | os.PathLike | None = None,
) -> Entry:
    """Write the ledger of a run: the entries of an earlier one, and a new last entry.

    A crash leaves either the previous ledger, or none, or this one.

    Args:
      run: the folder of the run.
      content: JSON values of the `FIELDS` except `entry`, `previous`, `forgotten` and `sha256`.
      ids: ids of the forgotten examples, in any order.
      before: the folder with the earlier ledger; None starts a ledger.

    Returns:
      The new entry.

    Raises:
      TamperedError: the earlier ledger is damaged, or its last model is not `parent`.
      OSError: the folder cannot be written.
    """
    folder = RunFolder(run)
    entries, salts = ([], {}) if before is None else (read(before), _salts(RunFolder(before)))
    ids, salt = list(ids), secrets.token_hex(32)
    entry = seal(
        {
            **content,
            "entry": len(entries) + 1,
            "previous": entries[-1]["sha256"] if entries else NO_ENTRY,
            "forgotten": {
                "count": len(ids),
                "hmac_sha256": hash_ids(ids, salt),
                "salt_sha256": files.digest(salt.encode()),
                "salts": len(salts) + 1,  # an earlier run's file may have been deleted
            },
        }
    )
    try:
        _next_entry(line_of(entry)[:-1], entries)
    except ValueError as error:
        raise TamperedError(
            "run", f"{before} cannot be continued: {error}", "restore it from a copy"
        ) from error
    if before is not None:
        _copy_statements(RunFolder(before), folder)
    _write_salts(folder, {**salts, str(entry["entry"]): salt})
    files.write(folder.ledger, b"".join(line_of(one) for one in (*entries, entry)))
    return entry


def copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a ledger, its signed statements and its salts, if there are any, into another folder.

    Raises:
      InputError: there is no ledger, or the file of salts is damaged.
      TamperedError: the ledger is not what was written.
    """
    entries, salts = read(source), _salts(RunFolder(source))
    if salts:
        _write_salts(RunFolder(target), salts)
    _copy_statements(RunFolder(source), RunFolder(target))
    files.write(RunFolder(target).ledger, b"".join(map(line_of, entries)))


def hash_ids(ids: Iterable[str], salt: str) -> str:
    """Return the salted hash of a list of ids, 64 hexadecimal digits; order does not matter.

    >>> hash_ids(["b", "a"], "00") == hash_ids(["a", "b"], "00") != hash_ids(["a", "b"], "01")
    True
    """
    lines = "".join(f"{i}\n" for i in sorted(ids))
    return hmac.new(bytes.fromhex(salt), lines.encode(), hashlib.sha256).hexdigest()


def model_digest(folder: Path) -> str:
    """Return the SHA-256 of an exported model: names, types, shapes and values of its arrays.

    Raises:
      OSError: it is missing or cannot be read.
    """
    from orbax.checkpoint import v1 as ocp

    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        with orbax_paths.for_reading(folder) as path:
            shapes = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
                ocp.metadata(path).metadata,
            )
            stored = ocp.load(path, shapes)
    except Exception as error:  # Orbax raises bare exceptions for missing and damaged files
        raise OSError(f"{folder.name} cannot be read ({type(error).__name__})") from error
    leaves, _ = jax.tree_util.tree_flatten_with_path(stored)
    return files.array_digest({jax.tree_util.keystr(at): np.asarray(leaf) for at, leaf in leaves})


def verify(run: str | os.PathLike, *, head: str | None = None) -> list[str]:
    """Check a run's ledger, and that models and report agree with its last entry.

    Args:
      run: the folder of the run.
      head: the SHA-256 of an entry that was noted elsewhere.

    Returns:
      What could not be checked, one sentence each.

    Raises:
      InputError: there is no ledger.
      TamperedError: something is not what was written; names the entry and what is wrong.
    """
    folder, entries = RunFolder(run), read(run)
    last, unchecked = entries[-1], []

    def wrong(problem: str) -> TamperedError:
        return TamperedError(
            "run", f"{folder}, entry {last['entry']}: {problem}", "restore it from a copy"
        )

    if head is not None and head not in [entry["sha256"] for entry in entries]:
        raise TamperedError(
            "head",
            f"is {head}, which no entry of {folder.ledger} has",
            "the ledger was replaced or cut off; restore it from a copy",
        )
    for path, key in ((folder.unlearned, "child"), (folder.original, "parent")):
        if path == folder.original and not path.exists():
            unchecked.append(f"{path.name} has been deleted, so it was not compared.")
            continue
        try:
            found = model_digest(path)
        except OSError as error:
            raise wrong(str(error)) from error
        if found != last[key]:
            raise wrong(
                f"{path} is not the {key} that it names; entries were cut off, or the checkpoint "
                "was replaced"
            )
    reported = _reported(folder)
    if reported is None:
        unchecked.append(
            f"{folder.report.name} names no entry, so only the models show the end of the ledger."
        )
    elif reported != {"entry": last["entry"], "sha256": last["sha256"]}:
        raise wrong(
            f"{folder.report.name} names another entry; one of the two was edited or cut off"
        )
    if not folder.salts.exists():
        unchecked.append(f"{folder.salts.name} has been deleted; no list of ids can be compared.")
    elif problem := _wrong_salts(folder, entries):
        raise wrong(f"{folder.salts.name} {problem}")
    return unchecked


def _next_entry(line: bytes, before: Sequence[Entry]) -> Entry:
    """Return the entry that a line holds; a ValueError says what is wrong with it."""
    number = len(before) + 1
    try:
        entry = json.loads(line)
        line_of({"": entry})  # Python reads NaN and Infinity, which are not JSON
    except (ValueError, RecursionError):
        raise ValueError(f"entry {number}: is not JSON") from None
    if not isinstance(entry, dict) or sorted(entry) != sorted(FIELDS):
        raise ValueError(f"entry {number}: does not have the fields of an entry")
    content = {name: value for name, value in entry.items() if name != "sha256"}
    if line + b"\n" != line_of(seal(content)):
        raise ValueError(f"entry {number}: its content does not have its SHA-256")
    if entry["previous"] != (before[-1]["sha256"] if before else NO_ENTRY):
        raise ValueError(f"entry {number}: does not follow the entry before it")
    if entry["entry"] != number:
        raise ValueError(f"entry {number}: has the number {entry['entry']}")
    if before and entry["parent"] != before[-1]["child"]:
        raise ValueError(f"entry {number}: its parent is not the model of the entry before it")
    return entry


def seal(content: Mapping[str, Any]) -> Entry:
    """Return the entry with its own SHA-256 added."""
    return {**content, "sha256": files.digest(line_of(content))}


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return the canonical line of an entry; raise `ValueError` if JSON has none."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{text}\n".encode()


def _copy_statements(source: RunFolder, target: RunFolder) -> None:
    """Copy the signed statements of entries, and their time stamps."""
    for path in sorted(source.statements.glob("entry-*")):
        if path != target.statements / path.name:
            files.write(target.statements / path.name, path.read_bytes())


def _write_salts(folder: RunFolder, salts: Mapping[str, str]) -> None:
    files.write_json(folder.salts, salts, mode=0o600)


def _salts(folder: RunFolder) -> dict[str, str]:
    path = folder.salts
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise InputError("run", f"{path} is damaged ({error})", "delete or restore it") from error


def _wrong_salts(folder: RunFolder, entries: Sequence[Entry]) -> str | None:
    """Return what is wrong with the file of salts, or None."""
    try:
        text = folder.salts.read_text(encoding="utf-8")
        salts = {name: files.digest(salt.encode()) for name, salt in json.loads(text).items()}
    except (OSError, ValueError, AttributeError) as error:
        return f"is damaged ({error})"
    known = entries[-entries[-1]["forgotten"].get("salts", 0) :]
    expected = {str(entry["entry"]): entry["forgotten"].get("salt_sha256") for entry in known}
    if salts == expected and text == files.json_text(json.loads(text)):
        return None
    return "was edited: its salts are not those of the entries"


def _reported(folder: RunFolder) -> dict[str, Any] | None:
    """Return number and SHA-256 of the entry that the report names, or None if it names none."""
    try:
        report = json.loads(folder.report.read_text(encoding="utf-8"))
        return {name: report["ledger"][name] for name in ("entry", "sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
