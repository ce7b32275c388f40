"""Paths that users give: `~`, `file://` and buckets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ltu_jax.errors import InputError, check_path

_BUCKET = re.compile(r"^(?:[A-Za-z][\w+.-]+://|(?:gs|s3|gcs|az|abfss?|hdfs|r2|https?):/)")
LONGEST = 3800  # bytes of a path; a run needs the rest of 4,096 for the names of its files


def is_bucket(path: Any) -> bool:
    """Return whether a path is on a storage service, such as `gs://bucket/run`.

    >>> is_bucket("gs://bucket/run"), is_bucket("runs/gs")
    (True, False)
    """
    return _BUCKET.match(str(path)) is not None


def local(argument: str, path: Any) -> Path:
    """Return a path of this machine, with `~` expanded.

    Raises:
      InputError: it is not valid text, is too long, or is on a storage service.

    >>> local("out", "file:///data/my%20runs").as_posix()
    '/data/my runs'
    >>> local("out", "s3://bucket/run")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: out: is s3://bucket/run, a bucket; give a local path and copy it
    """
    text = anywhere(argument, path)
    if is_bucket(text):
        raise InputError(argument, f"is {text}, a bucket", "give a local path and copy it")
    if len(os.fsencode(os.path.abspath(text))) > LONGEST:
        problem = f"is a path of more than {LONGEST:,} bytes"
        raise InputError(argument, problem, "give a shorter one")
    return Path(text)


def anywhere(argument: str, path: Any) -> str:
    """Return the name of a bucket as it is, and any other path with `~` expanded.

    Raises:
      InputError: it is not valid text, or there is no home directory to expand it with.
    """
    check_path(argument, path)
    text = os.fspath(path)
    if text.lower().startswith("file:/"):
        text = unquote(re.sub(r"^file:/+(localhost/)?", "/", text, flags=re.IGNORECASE))
    if is_bucket(text):
        return re.sub(r":/+", "://", text, count=1)  # `Path` takes a slash away
    expanded = os.path.expanduser(text)
    if expanded == "~" or expanded.startswith("~/"):
        problem = f"is {text}, but there is no home directory"
        raise InputError(argument, problem, "give the whole path")
    return expanded
