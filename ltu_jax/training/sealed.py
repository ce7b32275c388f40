"""Files that know whether they are whole: arrays and settings with their SHA-256 beside them.

Whatever is written here appears whole or not at all, and what was truncated, changed or lost since
is told before any of it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.files import PART
from ltu_jax.training import hosts
from ltu_jax.training.checkpoint import check_space, disk_error

ABOUT = "about.json"


class DamagedError(Exception):
    """A stored thing is not what was stored, or belongs to something else; says what is wrong."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with the digest of its content; numbers may be infinite or NaN.

    Raises:
      OSError: the folder cannot be written.
    """
    part = path.with_name(PART + path.name)
    text = json.dumps({"sha256": _content_digest(content), **content}, indent=1, ensure_ascii=False)
    part.write_text(text, encoding="utf-8")  # its end is its last bracket: no cut goes unseen
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` was given.

    Raises:
      DamagedError: the file is missing, is no JSON, or is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name}: {error}") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != _content_digest(content):
        raise DamagedError(f"{path.name}: is not what was written")
    return content


def write(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays to a new folder by Orbax, and `about` beside them.

    Several processes call this together, with the same arrays; process 0 does all but Orbax's part.

    Args:
      folder: must not exist yet.
      arrays: host arrays, none of them empty.
      about: JSON values; `read` returns them.

    Raises:
      OSError: the folder exists, or the disk refused it; what may be left of it then has a name
        that begins with `PART`.
    """
    from orbax.checkpoint import v1 as ocp

    part = folder.with_name(PART + folder.name)
    if hosts.is_main():
        remove(part)
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_space(folder, arrays)
        part.mkdir()
    hosts.meet(f"begin {folder.name}")
    try:
        ocp.save((part / "arrays").absolute(), dict(arrays))
        if hosts.is_main():
            seals = {"arrays": array_digest(arrays), "files": file_digests(part)}
            write_json(part / ABOUT, {**about, **seals})
            os.rename(part, folder)
    except ValueError as error:  # what Orbax makes of a full disk
        raise disk_error(folder, error) from error
    finally:
        if hosts.is_main():
            remove(part)
    hosts.meet(f"end {folder.name}")


def read(folder: Path, config: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and `about` of a folder that `write` made.

    Every file is compared with its digest before Orbax reads it, and the arrays after that.

    Args:
      folder: as written.
      config: what `about["config"]` must be.

    Raises:
      DamagedError: something is missing, changed, or of another run.
    """
    from orbax.checkpoint import v1 as ocp

    about = read_json(folder / ABOUT)
    if about.get("config") != config:
        raise DamagedError("belongs to another run or to other settings")
    check_files(folder, about["files"])
    arrays = {name: np.asarray(x) for name, x in ocp.load((folder / "arrays").absolute()).items()}
    if array_digest(arrays) != about["arrays"]:
        raise DamagedError("its arrays are not what was written")
    return arrays, about


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raise `DamagedError` unless the folder holds exactly these files with these digests."""
    found = file_digests(folder)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            how = {True: "is missing", False: "is not what was written"}[name not in found]
            raise DamagedError(f"{name} {how}")


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder` by its path; `about.json` is left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / ABOUT
    }


def array_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of named arrays: names, types, shapes and values."""
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype} {array.shape}\n".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def remove(folder: Path) -> None:
    """Delete a folder if it is there, and what Orbax left beside it of an unfinished write."""
    for path in [folder, *folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*")]:
        if path.exists():
            shutil.rmtree(path)


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
