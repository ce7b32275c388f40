"""The check of a run's ledger together with its signed statements and time stamps."""

# pyright: reportPrivateImportUsage=false
from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax import files
from ltu_jax.errors import DamagedError, InputError, TamperedError
from ltu_jax.runs.evidence import signing, time_stamps
from ltu_jax.runs.evidence.statement import PREDICATE_TYPE, check_valid, path_of
from ltu_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


def verify(
    run: str | os.PathLike,
    *,
    key: str | os.PathLike | None = None,
    head: str | None = None,
    tsa_root: str | os.PathLike | None = None,
) -> list[str]:
    """Check ledger, models and salts of a run, its signed statements and the files they name.

    Args:
      run: the folder of the run.
      key: file of the public key of the statements; None checks no signature.
      head: the SHA-256 of an entry that was noted elsewhere.
      tsa_root: file of the root certificate of the time stamps' authority, in PEM form.

    Returns:
      What could not be checked, one sentence each.

    Raises:
      InputError: there is no ledger, a file of an argument cannot be used, or another key signed.
      TamperedError: something is not what was written or signed; names the entry and the file.
    """
    public = None if key is None else signing.read_public(key)
    roots = None if tsa_root is None else time_stamps.read_roots(tsa_root)
    folder, unchecked = RunFolder(run), ledger.verify(run, head=head)
    entries = ledger.read(run)
    try:
        found = _statements(folder, entries, public)
        if public is not None and len(entries) not in found:
            raise ValueError(f"{path_of(folder, len(entries)).name} is missing: it is not signed")
        if len(entries) in found:
            unchecked += _compare_files(folder, found[len(entries)])
        for number in found:
            unchecked += time_stamps.check(path_of(folder, number), roots)
        unchecked += _check_deletions(folder, public)
    except InputError:  # another key, which is no fault of the files
        raise
    except ValueError as error:
        raise TamperedError("run", f"{folder}: {error}", "restore it from a copy") from error
    return [*unchecked, *_unsigned(folder, entries, found, public)]


def _statements(
    folder: RunFolder, entries: Sequence[ledger.Entry], key: SSlibKey | None
) -> dict[int, Mapping[str, Any]]:
    """Return the statements by the number of their entry, each checked on its own."""
    found: dict[int, Mapping[str, Any]] = {}
    for path in sorted(folder.statements.glob("entry-*.json")):
        try:
            statement = _read(path, key)
            number = _number(statement, path, entries, found)
        except InputError:
            raise
        except ValueError as error:
            raise ValueError(f"{path.parent.name}/{path.name} {error}") from error
        found[number] = statement
    return found


def _read(path: Path, key: SSlibKey | None) -> Mapping[str, Any]:
    data = path.read_bytes()
    if key is not None:
        signing.check_signed(data, key, f"{path.parent.name}/{path.name}")
    statement = signing.content_of(data)
    if not isinstance(statement, dict) or statement.get("predicateType") != PREDICATE_TYPE:
        raise ValueError("is not the statement of a deletion")
    if key is not None:
        check_valid(statement)
    return statement


def _number(
    statement: Mapping[str, Any],
    path: Path,
    entries: Sequence[ledger.Entry],
    found: Mapping[int, Any],
) -> int:
    """Return the number of a statement's entry, which must be that of the ledger."""
    try:
        entry, previous = statement["predicate"]["entry"], statement["predicate"]["previous"]
        number = entry["entry"]
    except (KeyError, TypeError) as error:
        raise ValueError("holds no entry of a ledger") from error
    if number in found:
        name = f"{path.parent.name}/{path.name}"
        problem = f"{path.parents[1]}: {name} is a second statement of entry {number}"
        raise InputError("run", problem, "delete the one that was not signed for this entry")
    if not re.fullmatch(rf"entry-0*{number}\.json", path.name):
        raise ValueError(f"holds entry {number}; it was renamed")
    if number > len(entries) or entry != entries[number - 1]:
        raise ValueError(f"holds another entry {number} than ledger.jsonl")
    before = path.with_name(f"entry-{number - 1:04d}.json")
    if previous is not None and before.exists() and files.digest(before.read_bytes()) != previous:
        raise ValueError(f"does not follow {before.name}, which was replaced")
    return number


def _compare_files(folder: RunFolder, statement: Mapping[str, Any]) -> list[str]:
    """Compare the files that a statement names; return what is not there any more."""
    unchecked, expected = [], {}
    for one in statement["subject"]:
        expected[one["name"]] = one["digest"]["sha256"]
    for one in statement["predicate"]["materials"]:
        if one["name"] == folder.spec.name:
            expected[folder.spec.name] = one["digest"]["sha256"]
        elif one["name"] == "data":
            _compare_data(folder, one["digest"]["sha256"])
    for name, digest in expected.items():
        path = folder.path / name
        if not path.is_file():
            if name.startswith(f"{folder.unlearned.name}/"):
                raise ValueError(f"{name} is missing")
            unchecked.append(f"{name} has been deleted, so it was not compared.")
        elif files.digest(path.read_bytes()) != digest:
            raise ValueError(f"{name} differs from what was signed")
    signed = {name for name in expected if name.startswith(f"{folder.unlearned.name}/")}
    there = {f"{folder.unlearned.name}/{name}" for name in files.file_digests(folder.unlearned)}
    if extra := sorted(there - signed):
        raise ValueError(f"{extra[0]} is not part of what was signed")
    return unchecked


def _compare_data(folder: RunFolder, digest: str) -> None:
    try:
        described = files.read_checksummed(folder.spec)
    except DamagedError as error:
        raise ValueError(str(error)) from error
    if described["data_sha256"] != digest:
        raise ValueError(f"{folder.spec.name} names other data than what was signed")


def _check_deletions(folder: RunFolder, key: SSlibKey | None) -> list[str]:
    """Check that what the records of `forget_files` name as deleted or rewritten is so."""
    unchecked, rewritten = [], {}
    for path in sorted(folder.statements.glob("files-*.json")):
        data = path.read_bytes()
        try:
            is_signed = "payload" in (content := json.loads(data))
            if is_signed and key is not None:
                signing.check_signed(data, key, f"{path.parent.name}/{path.name}")
            predicate = (signing.content_of(data) if is_signed else content)["predicate"]
            deleted = predicate["deleted"]
            rewritten |= {one["name"]: one["after"] for one in predicate["rewritten"]}
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.parent.name}/{path.name} {error}") from error
        if key is not None and not is_signed:
            unchecked.append(f"{path.name} is not signed.")
        for name in deleted:
            if (folder.path / name).exists():
                raise ValueError(f"{name} is there, although {path.name} says it was deleted")
    for name, digest in rewritten.items():
        path = folder.path / name
        if path.exists() and files.digest(path.read_bytes()) != digest:
            raise ValueError(f"{name} is not what was left of it without the forget set")
    return unchecked


def _unsigned(
    folder: RunFolder,
    entries: Sequence[ledger.Entry],
    found: Mapping[int, Any],
    key: SSlibKey | None,
) -> list[str]:
    """Return sentences on entries without a statement and on signatures without a key."""
    if not found:
        return [f"{folder.ledger.name} is not signed: there is no statement."]
    missing = [entry["entry"] for entry in entries if entry["entry"] not in found]
    sentences = [
        f"Entry {number} has no signed statement; only the chain protects it." for number in missing
    ]
    if key is None:
        sentences.append(f"The signatures of {len(found)} statements: give `key`, the public one.")
    return sentences
