"""One process at a time in a folder: a lock of the operating system, released on any death.

Locks work between processes of one machine, and over network file systems that support `flock`.
Of the processes of one distributed run, process 0 holds the lock.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ltu_jax import files
from ltu_jax.errors import InputError
from ltu_jax.training import hosts

LOCK, OWNER = ".lock", ".owner.json"
WAIT = "wait until it ends, or stop it"


@contextmanager
def claim(folder: Path, argument: str, remedy: str = WAIT) -> Iterator[None]:
    """Hold a folder; nothing is left in it afterwards.

    Args:
      folder: an existing folder.
      argument: Python name of the argument that names it, for errors.
      remedy: what to do if another process holds it.

    Raises:
      InputError: another process holds the folder, or it is read-only.
    """
    if not hosts.is_main():
        yield
        return
    lock = _acquire(folder, argument, remedy)
    try:
        owner = {"process": os.getpid(), "host": socket.gethostname()}
        files.write_json(folder / OWNER, owner)
        yield
    finally:
        for name in (OWNER, LOCK):
            (folder / name).unlink(missing_ok=True)
        lock.release()


def check_free(folder: Path, argument: str, remedy: str = WAIT) -> None:
    """Raise `InputError` if another process holds the folder."""
    if (folder / OWNER).exists():
        _acquire(folder, argument, remedy).release()


def _acquire(folder: Path, argument: str, remedy: str) -> FileLock:
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"{folder} is in use by {_owner(folder)}"
        raise InputError(argument, problem, remedy) from error
    except OSError as error:
        problem = f"{folder} cannot be written to ({error.strerror})"
        raise InputError(argument, problem, "copy it to a folder that can be") from error
    return lock


def _owner(folder: Path) -> str:
    """Return which process holds a folder, as far as it has written that yet."""
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {int(owner['process'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
