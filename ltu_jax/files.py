"""Files that survive a crash: there whole or not at all, and on the disk when the call returns."""

from __future__ import annotations

import os
from pathlib import Path

PART = ".part-"


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path` in one step.

    Args:
      path: in a folder that exists.
      data: all of its new content.
      mode: permissions of the file.

    Raises:
      OSError: the folder cannot be written; `path` is as it was.
    """
    part = path.with_name(PART + path.name)
    _write_part(part, data, mode)
    os.replace(part, path)
    sync_folder(path.parent)


def create(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a new file in one step.

    Args:
      path: in a folder that exists; must not exist itself.
      data: its content.
      mode: permissions of the file.

    Raises:
      FileExistsError: there is such a file; it is left alone.
      OSError: the folder cannot be written.
    """
    part = path.with_name(PART + path.name)
    _write_part(part, data, mode)
    try:
        os.link(part, path)  # unlike a rename, this never replaces a file
    finally:
        part.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk hold which files are in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_part(part: Path, data: bytes, mode: int) -> None:
    part.unlink(missing_ok=True)  # of a process that was killed
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
