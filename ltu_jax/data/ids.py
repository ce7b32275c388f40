"""Ids of examples from lists and files."""

from __future__ import annotations

import csv
import json
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax import paths
from ltu_jax.errors import InputError, few, short

_FORMATS = {".csv": "UTF-8 CSV", ".json": "UTF-8 JSON", ".npy": "NumPy array without pickles"}


def read_ids(
    source: str | os.PathLike | Iterable, column: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Read ids from a list or a file, as described at `request.by_ids`.

    Returns:
      The ids; and the first line of a one-column CSV if it was assumed to be the column's name,
      else None.

    Raises:
      InputError: the source is neither a list of ids nor a readable file of them.
    """
    header = None
    is_path = isinstance(source, str | os.PathLike)
    name = repr(os.fspath(source)) if is_path else short(source)
    path = paths.local("forget", source) if is_path else None
    if column is not None and not (path and path.suffix.lower() == ".csv"):
        raise _error(f"{name} has no column {column!r}", "give a .csv file, or no column")
    if path:
        values, header = _read_file(path, column, name)
    else:
        values = getattr(source, "tolist", lambda: source)()
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise _error(f"{name} is not a list of ids", "give a flat list, or the path of a file")
    return tuple(_as_id(value, name) for value in values), header


def _read_file(path: Path, column: str | None, name: str) -> tuple[Any, str | None]:
    """Return the unchecked content of a file, and its header line if that was assumed."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False).tolist(), None
        with path.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as file:
            if suffix == ".json":
                return json.load(file), None
            if suffix != ".csv":
                return [line.strip() for line in file if line.strip()], None
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except OSError as error:
        problem = f"{name} cannot be read ({error.strerror})"
        raise _error(problem, "give a readable file, or a list of ids") from error
    except (ValueError, EOFError, RecursionError, MemoryError, csv.Error) as error:
        file_format = _FORMATS.get(suffix, "UTF-8 text")
        raise _error(f"{name} is not a {file_format}", "save it as one") from error
    return _csv_column(rows, column, name)


def _csv_column(
    rows: list[list[str]], column: str | None, name: str
) -> tuple[list[str], str | None]:
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    if column is None and len(header) > 1:
        raise _error(f"{name} has the columns {few(header)}", "name the column of the ids")
    if column is not None and header.count(column) != 1:
        problem = f"{name} has {header.count(column)} columns {column!r}"
        raise _error(problem, f"its columns are {few(header)}; name one of them")
    position = header.index(column) if column is not None else 0
    ids = []
    for number, row in enumerate(body, start=2):
        if any(row):
            if len(row) <= position or not row[position]:
                raise _error(f"{name} has no id in row {number}", "add the id or delete the row")
            ids.append(row[position])
    return ids, header[0] if column is None and header else None


def _as_id(value: Any, name: str) -> str:
    if isinstance(value, str):
        return str(value)
    try:
        return value.decode() if isinstance(value, bytes) else str(as_integer(value))
    except (TypeError, UnicodeDecodeError) as error:
        problem = f"{name} contains {short(value)}"
        raise _error(problem, "ids are a flat list of strings or integers") from error


def as_integer(value: Any) -> int:
    """Return an integer of any library as `int`.

    Raises:
      TypeError: the value is a float, a bool or an array with axes.
    """
    if isinstance(value, bool) or np.ndim(value):
        raise TypeError(f"{short(value)} is not an integer")
    return operator.index(value)


def _error(problem: str, remedy: str) -> InputError:
    return InputError("forget", problem, remedy)
