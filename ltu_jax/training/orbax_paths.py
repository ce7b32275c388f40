"""Paths that Orbax reads and writes correctly.

Orbax takes `*`, `?` and `[` in a path for a pattern, and its storage takes a backslash for a slash:
checkpoints are written elsewhere or without their arrays. Such folders are read and written through
a symbolic link with a plain name.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltu_jax.errors import is_text
from ltu_jax.files import PART, publish
from ltu_jax.paths import is_bucket

_MISREAD = re.compile(r"[*?\[\\]|(?:^|/)\.\.(?:/|$)")


def is_plain(path: str | os.PathLike) -> bool:
    """Return whether Orbax reads and writes this path as it is."""
    text = os.path.join(os.getcwd(), path)
    return _MISREAD.search(text) is None and is_text(text)


@contextmanager
def for_reading(folder: str | os.PathLike) -> Iterator[str]:
    """Provide an absolute path of a folder that Orbax can read."""
    if is_bucket(folder):
        yield str(folder)
    elif is_plain(folder):
        yield os.path.abspath(folder)
    else:
        with _link(Path(folder)) as link:
            yield str(link)


@contextmanager
def for_writing(folder: Path) -> Iterator[str]:
    """Provide an absolute path for Orbax to write a new folder to.

    A folder with another name gets its own on success, and is deleted on failure.
    """
    if is_bucket(folder):
        yield str(folder)
        return
    if is_plain(folder):
        yield os.path.abspath(folder)
        return
    with _link(folder.parent) as parent:
        part = parent / f"{PART}{secrets.token_hex(8)}"
        try:
            yield str(part)
            publish(part.resolve(), folder)
        finally:
            for left in parent.glob(f"{part.name}*"):
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _link(folder: Path) -> Iterator[Path]:
    """Provide a symbolic link with a plain name."""
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if is_plain(place)]
    place = next((place for place in places if os.access(place, os.W_OK)), None)
    if place is None:
        raise OSError(f"Orbax cannot use {folder}: its name has one of * ? [ or a backslash")
    with tempfile.TemporaryDirectory(prefix="ltu-", dir=place) as scratch:
        link = Path(scratch) / "link"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link
