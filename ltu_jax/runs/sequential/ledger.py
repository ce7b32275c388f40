"""The ledger of a model's deletions, `RUN/ledger.jsonl`: what was forgotten, when, and from which.

One line of JSON a deletion, the first deletion first. Every entry holds the SHA-256 of the one
before it and its own, in a form of JSON in which equal contents are equal bytes. So any byte that
is changed, deleted or inserted is found, and so is a line that is missing, twice there or out of
place. An entry names the networks before and after by the SHA-256 of their arrays; the networks in
the run's folder have to be those of its last entry.

What it cannot show:

* Nothing here is signed. Whoever can write to the folder can make up a whole ledger, with networks
  and report to match. Against that helps the newest entry's SHA-256, noted where they cannot
  write: the report names it, and `verify(..., head=...)` compares.
* Entries that are cut off the end leave a ledger that is whole in itself. They are missed because
  the network in `RUN/unlearned` and the number in `report.json` are then not the last entry's. If
  both were set back as well, an earlier state of the run is all that can be seen.
* It says what was done, not that it worked.

What it gives away. Ids are in no entry, only their number and an HMAC-SHA256 of their sorted list,
keyed by 32 random bytes a deletion. These salts are in `RUN/ledger.salts.json`, not in the ledger:
to whoever holds the ledger alone the hash says nothing. Whoever holds a salt as well can try lists
of ids; where one id was forgotten of 50,000, that is 50,000 tries. Keep that file like the ids
themselves, or delete it: then nobody can show any more that a list is the one that was forgotten.
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

import ltu_jax.files as durable
from ltu_jax.errors import InputError, TamperedError

NAME, SALTS = "ledger.jsonl", "ledger.salts.json"
NO_ENTRY = "0" * 64  # what the first entry names as the one before it
FIELDS = (
    "entry",
    "previous",
    "time",
    "parent",
    "child",
    "forgotten",
    "served",
    "method",
    "knobs",
    "seed",
    "metrics",
    "drift",
    "versions",
    "sha256",
)

Entry = dict[str, Any]


def read(folder: str | os.PathLike, *, argument: str = "RUN") -> list[Entry]:
    """Return the entries of a run's ledger, the first deletion first.

    Args:
      folder: of the run.
      argument: the name that errors call the folder by.

    Raises:
      InputError: there is no ledger.
      TamperedError: it is not what was written; names the first entry that is wrong.
    """
    path = Path(folder) / NAME
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            f"{argument} {folder}: its {NAME} cannot be read ({error.strerror}); "
            "give the folder of a finished run"
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
            f"{argument} {folder}: {NAME} was edited: {error}; restore it from a copy"
        ) from error
    return entries


def append(
    folder: Path, content: Mapping[str, Any], ids: Iterable[str], *, since: Path | None = None
) -> Entry:
    """Write the ledger of a run: the entries of an earlier one, and one more at their end.

    A crash leaves the ledger that was there before, or none, or this one.

    Args:
      folder: of the run.
      content: JSON values for the `FIELDS`, but for those that this function fills in: `entry`,
        `previous`, `forgotten` and `sha256`.
      ids: what was forgotten, in any order.
      since: the folder with the ledger that is gone on with; None starts one.

    Returns:
      The new entry.

    Raises:
      TamperedError: the earlier ledger is damaged, or ends with another network than `parent`.
      OSError: the folder cannot be written.
    """
    before, salts = ([], {}) if since is None else (read(since), _salts(since))
    ids, salt = list(ids), secrets.token_hex(32)
    entry = _sealed(
        {
            **content,
            "entry": len(before) + 1,
            "previous": before[-1]["sha256"] if before else NO_ENTRY,
            "forgotten": {"count": len(ids), "hmac_sha256": hash_ids(ids, salt)},
        }
    )
    try:
        _next_entry(_line(entry)[:-1], before)
    except ValueError as error:
        raise TamperedError(f"{since}: cannot be gone on with: {error}") from error
    _write_salts(folder, {**salts, str(entry["entry"]): salt})
    durable.write(folder / NAME, b"".join(_line(one) for one in (*before, entry)))
    return entry


def copy(source: Path, target: Path) -> None:
    """Copy ledger and salts into another folder; salts may have been deleted.

    Raises:
      InputError: there is no ledger, or the file of salts is damaged.
      TamperedError: the ledger is not what was written.
    """
    entries, salts = read(source), _salts(source)
    if salts:
        _write_salts(target, salts)
    durable.write(target / NAME, b"".join(map(_line, entries)))


def hash_ids(ids: Iterable[str], salt: str) -> str:
    """Return the salted hash of a list of ids, 64 hexadecimal digits; their order is of no account.

    >>> hash_ids(["b", "a"], "00") == hash_ids(["a", "b"], "00") != hash_ids(["a", "b"], "01")
    True
    """
    lines = "".join(f"{i}\n" for i in sorted(ids))
    return hmac.new(bytes.fromhex(salt), lines.encode(), hashlib.sha256).hexdigest()


def network_digest(folder: Path) -> str:
    """Return the SHA-256 of an exported network: names, types, shapes and values of its arrays.

    Raises:
      OSError: it is not there, or cannot be read.
    """
    from orbax.checkpoint import v1 as ocp

    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            ocp.metadata(folder.absolute()).metadata,
        )
        stored = ocp.load(folder.absolute(), shapes)
    except Exception as error:  # Orbax raises bare exceptions for missing and damaged files
        raise OSError(f"{folder.name} cannot be read ({type(error).__name__})") from error
    leaves, _ = jax.tree_util.tree_flatten_with_path(stored)
    return durable.array_digest({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})


def verify(
    folder: str | os.PathLike, *, head: str | None = None, argument: str = "RUN"
) -> list[str]:
    """Check a run's ledger, and that the run is where its last entry says.

    Args:
      folder: of the run.
      head: the SHA-256 of an entry that somebody noted; None compares with the report's alone.
      argument: the name that errors call the folder by.

    Returns:
      What could not be checked, a sentence each.

    Raises:
      InputError: there is no ledger.
      TamperedError: something is not what was written; names the entry and what is wrong.
    """
    folder = Path(folder)
    entries = read(folder, argument=argument)
    last, unchecked = entries[-1], []

    def wrong(problem: str) -> TamperedError:
        return TamperedError(f"{argument} {folder}: entry {last['entry']}: {problem}")

    if head is not None and head not in [entry["sha256"] for entry in entries]:
        raise TamperedError(
            f"{argument} {folder}: no entry has the SHA-256 {head}; the ledger is another one, "
            "or it was cut off or made up anew"
        )
    for part, key in (("unlearned", "child"), ("original", "parent")):
        if part == "original" and not (folder / part).exists():
            unchecked.append(f"{part} is not there any more, so it was not compared.")
            continue
        try:
            found = network_digest(folder / part)
        except OSError as error:
            raise wrong(f"{error}; restore it from a copy") from error
        if found != last[key]:
            raise wrong(
                f"{folder / part} is another network than the {key} that it names; entries were "
                "cut off, or the checkpoint was replaced"
            )
    reported = _reported(folder)
    if reported is None:
        unchecked.append("report.json names no entry, so only the networks tell the ledger's end.")
    elif reported != {"entry": last["entry"], "sha256": last["sha256"]}:
        raise wrong("is not the one that report.json names; one of the two was edited or cut off")
    return unchecked


def _next_entry(line: bytes, before: Sequence[Entry]) -> Entry:
    """Return the entry that a line holds; a ValueError says what is wrong with it."""
    number = len(before) + 1
    try:
        entry = json.loads(line)
        _line({"": entry})  # Python's JSON knows numbers that none else does
    except (ValueError, RecursionError):
        raise ValueError(f"entry {number}: is no JSON") from None
    if not isinstance(entry, dict) or sorted(entry) != sorted(FIELDS):
        raise ValueError(f"entry {number}: has not the fields of an entry")
    content = {name: value for name, value in entry.items() if name != "sha256"}
    if line + b"\n" != _line(_sealed(content)):
        raise ValueError(f"entry {number}: its content does not have its SHA-256")
    if entry["previous"] != (before[-1]["sha256"] if before else NO_ENTRY):
        raise ValueError(f"entry {number}: does not follow on the entry before it")
    if entry["entry"] != number:
        raise ValueError(f"entry {number}: has the number {entry['entry']}")
    if before and entry["parent"] != before[-1]["child"]:
        raise ValueError(f"entry {number}: its parent is not the network of the entry before it")
    return entry


def _sealed(content: Mapping[str, Any]) -> Entry:
    return {**content, "sha256": durable.digest(_line(content))}


def _line(entry: Mapping[str, Any]) -> bytes:
    """Return the one way in which an entry is written; a ValueError where JSON has none."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{text}\n".encode()


def _write_salts(folder: Path, salts: Mapping[str, str]) -> None:
    durable.write_json(folder / SALTS, salts, mode=0o600)


def _salts(folder: Path) -> dict[str, str]:
    path = folder / SALTS
    try:
        salts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error}); delete it or restore it") from error
    return salts


def _reported(folder: Path) -> dict[str, Any] | None:
    """Return number and SHA-256 of the entry that the report names, or None if it names none."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return {name: report["ledger"][name] for name in ("entry", "sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
