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

from ltu_jax.errors import InputError, few, short


def read_ids(
    source: str | os.PathLike | Iterable, column: str | None
) -> tuple[tuple[str, ...], str | None]:
    """The ids in a list or a file, as `request.by_ids` takes them.

    Returns the ids, and the first line of a one-column CSV where it was taken as the column's name
    on trust, else None.

    Raises:
      InputError: the source is no list and no readable file of ids.
    """
    header = None
    is_path = isinstance(source, str | os.PathLike)
    name = f"--forget-ids {repr(os.fspath(source)) if is_path else short(source)}"
    if column is not None and not (is_path and Path(source).suffix.lower() == ".csv"):
        raise InputError(f"{name}: has no column {column!r}; give a .csv file, or no column")
    if is_path:
        source, header = _read_file(Path(source), column, name)
    elif hasattr(source, "tolist"):
        source = source.tolist()
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise InputError(f"{name}: is no list of ids; give a flat list, or a file's path")
    return tuple(_as_id(value, name) for value in source), header


def _read_file(path: Path, column: str | None, name: str) -> tuple[Any, str | None]:
    """What a file holds, still to be checked, and its header line if that was taken on trust."""
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
        raise InputError(
            f"{name}: cannot be read ({error.strerror}); give a readable file, or a list of ids"
        ) from error
    except (ValueError, EOFError, RecursionError, MemoryError, csv.Error) as error:
        kinds = {".csv": "UTF-8 CSV", ".json": "UTF-8 JSON", ".npy": "NumPy array without pickles"}
        raise InputError(f"{name}: is no {kinds.get(suffix, 'UTF-8 text')}; save it so") from error
    return _csv_column(rows, column, name)


def _csv_column(
    rows: list[list[str]], column: str | None, name: str
) -> tuple[list[str], str | None]:
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    if column is None and len(header) > 1:
        raise InputError(f"{name}: has the columns {few(header)}; name the one with the ids")
    if column is not None and header.count(column) != 1:
        raise InputError(f"{name}: has not one column {column!r} but {few(header)}; name another")
    place = header.index(column) if column is not None else 0
    ids = []
    for number, row in enumerate(body, start=2):
        if any(row):
            if len(row) <= place or not row[place]:
                raise InputError(f"{name}: row {number} has no id; fill it in or delete it")
            ids.append(row[place])
    return ids, header[0] if column is None and header else None


def _as_id(value: Any, name: str) -> str:
    if isinstance(value, str):
        return str(value)
    try:
        return value.decode() if isinstance(value, bytes) else str(as_integer(value))
    except (TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: {short(value)} is no id; ids are a flat list of strings or integers"
        ) from error


def as_integer(value: Any) -> int:
    """An integer of any library as `int`; a TypeError for floats, bools and arrays with axes."""
    if isinstance(value, bool) or np.ndim(value):
        raise TypeError(f"{short(value)} is not an integer")
    return operator.index(value)
