"""Files that are written whole or not at all, and SHA-256 digests of files, arrays and JSON."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.errors import DamagedError, InputError

PART = ".part-"  # prefix of files and folders that are being written


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of a file in one step, on the disk when the call returns.

    Args:
      path: of the file; its folder is made if absent.
      data: the new content.
      mode: permissions of the file.

    Raises:
      OSError: the folder cannot be written; the file is as it was.
    """
    with _part(path, data, mode) as part:
        os.replace(part, path)


def create(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a new file in one step; arguments as for `write`.

    Raises:
      FileExistsError: the file exists; it is not changed.
      OSError: the folder cannot be written.
    """
    with _part(path, data, mode) as part:
        os.link(part, path)  # never replaces a file, unlike a rename
        part.unlink()


def write_json(path: Path, content: Any, *, mode: int = 0o644) -> None:
    """Replace the content of a JSON file in one step.

    Raises:
      ValueError: a number is not finite.
      OSError: the folder cannot be written.
    """
    write(path, json_text(content).encode(), mode=mode)


def json_text(content: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_checksummed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its SHA-256; numbers may be infinite or NaN."""
    text = json.dumps({"sha256": json_digest(content), **content}, indent=1, ensure_ascii=False)
    write(path, text.encode())


def read_checksummed(path: Path) -> dict[str, Any]:
    """Return what `write_checksummed` wrote.

    Raises:
      DamagedError: the file is missing, is not JSON, or has another SHA-256.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name}: {error}") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != json_digest(content):
        raise DamagedError(f"{path.name} differs from what was written")
    return content


def write_arrays(path: Path, arrays: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Replace the content of an `.npz` file in one step."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write(path, content.getvalue(), mode=mode)


def read_arrays(path: Path, names: Sequence[str], argument: str) -> list[np.ndarray]:
    """Return the arrays of these names from an `.npz` file.

    Raises:
      InputError: the file of this argument is missing, damaged or of another content.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        problem = f"{path} cannot be read ({type(error).__name__})"
        raise InputError(argument, problem, "restore the file that the library wrote") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Provide a folder to fill; it is renamed to `folder` on success and deleted on failure.

    If another process has made `folder` meanwhile, that one stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PART, dir=folder.parent) as scratch:
        part = Path(scratch) / folder.name  # a folder inside, since `scratch` itself is private
        part.mkdir()
        yield part
        try:
            publish(part, folder)
        except OSError:
            if not folder.exists():
                raise


def publish(part: Path, folder: Path) -> None:
    """Rename a folder that is complete."""
    os.rename(part, folder)
    sync_folder(folder.parent)


def remove(folder: Path) -> None:
    """Delete a folder if it exists, and the temporary folders that Orbax left next to it."""
    left = f"{glob.escape(folder.name)}.orbax-checkpoint-tmp*"
    for path in [folder, *folder.parent.glob(left)]:
        if path.exists():
            shutil.rmtree(path)


def sync_folder(folder: Path) -> None:
    """Flush the list of files of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def json_digest(content: Any) -> str:
    """Return the SHA-256 of JSON values; the order of keys does not matter."""
    return digest(json.dumps(content, sort_keys=True).encode())


def array_digest(arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named arrays: names, types, shapes and values, but not their order.

    >>> a = np.arange(4)
    >>> array_digest({"a": a}) == array_digest({"a": a.reshape(2, 2)})
    False
    """
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        array = np.asarray(array)
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, which is read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raise `DamagedError` unless `folder` holds exactly the files with these digests."""
    found = file_digests(folder)
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise DamagedError(f"{name} is missing")
        if found[name] != expected.get(name):
            raise DamagedError(f"{name} differs from what was written")


@contextmanager
def _part(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Provide a new file with `data` in the folder of `path`; sync the folder at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
