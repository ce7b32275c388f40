"""Ids of examples from lists and files."""

from __future__ import annotations

import csv
import io
import json
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from ltu_jax import paths
from ltu_jax.data.columns import is_missing
from ltu_jax.data.matching import key
from ltu_jax.errors import InputError, few, short

_TABLES = (".csv", ".tsv")
_FORMATS = {
    **dict.fromkeys(_TABLES, "UTF-8 CSV"),
    ".json": "UTF-8 JSON",
    ".npy": "NumPy array without pickles",
}

# Read as text, their content would be taken for ids.
_UNREADABLE = (
    *(".parquet", ".feather", ".arrow", ".xlsx", ".xls", ".ods", ".jsonl", ".ndjson", ".sqlite"),
    *(".yaml", ".yml", ".xml", ".html", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".pdf", ".docx"),
    *(".gz", ".zip", ".bz2", ".xz", ".zst"),
)


class Ids(NamedTuple):
    """The entries of a list or a file of ids.

    Attributes:
      values: ids as strings, or values of a column of the data as they are.
      header: first line of a one-column CSV if it was assumed to be the column's name.
      is_csv: whether a CSV was read.
      typed: whether entries have a type; those of text files are all text.
    """

    values: tuple[Any, ...]
    header: str | None
    is_csv: bool
    typed: bool


def read_ids(source: str | os.PathLike | Iterable, column: str | None) -> Ids:
    """Read ids from a list or a file, as described at `request.by_ids`.

    Raises:
      InputError: the source is neither a list of ids nor a readable file of them.
    """
    if not isinstance(source, str | os.PathLike):
        entry = _as_id if column is None else as_value
        return Ids(
            tuple(entry(value, short(source)) for value in _listed(source)), None, False, True
        )
    path, name = paths.local("forget", source), repr(os.fspath(source))
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE:
        raise _error(f"{name} is a {suffix} file", "save the ids as .txt, .csv, .json or .npy")
    is_csv = suffix in _TABLES
    values, header = _read_file(path, column if is_csv else None, name)
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise _error(f"{name} is not a list of ids", "save a flat list")
    entry = _as_id if column is None or is_csv else as_value
    typed = suffix in (".json", ".npy")
    return Ids(tuple(entry(value, name) for value in values), header, is_csv, typed)


def _listed(source: Any) -> list[Any]:
    """Return the entries of a list, set, array or column of a data frame."""
    if np.ma.is_masked(source):
        raise _error(f"{short(source)} has masked entries", "leave them out")
    if hasattr(source, "__array__"):
        source = _entries(np.asarray(source))
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Iterable):
        raise _error(f"{short(source)} is not a list of ids", "give a flat list, or a file's path")
    return list(source)


def _read_file(path: Path, column: str | None, name: str) -> tuple[Any, str | None]:
    """Return the unchecked content of a file, and its header line if that was assumed."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            with path.open("rb") as file:
                return _entries(np.lib.format.read_array(file, allow_pickle=False)), None
        with path.open(encoding="utf-8-sig", newline="" if suffix in _TABLES else None) as file:
            if suffix == ".json":
                return json.load(file), None
            if suffix not in _TABLES:
                return [line.rstrip("\n") for line in file if line.strip()], None
            rows = _rows(file.read())
    except OSError as error:
        problem = f"{name} cannot be read ({error.strerror})"
        raise _error(problem, "give a readable file, or a list of ids") from error
    except (ValueError, EOFError, RecursionError, MemoryError, csv.Error) as error:
        file_format = _FORMATS.get(suffix, "UTF-8 text")
        raise _error(f"{name} is not a {file_format}", "save it as one") from error
    return _csv_column(rows, column, name)


def _rows(text: str) -> list[list[str]]:
    """Return the rows of a table with commas, or the semicolons or tabs of its first line."""

    def read(delimiter: str) -> list[list[str]]:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter))

    first = text.partition("\n")[0]
    other = max(";\t", key=first.count)
    return read(other if "," not in first and other in first else ",")


def _entries(array: np.ndarray) -> Any:
    """Return the entries of an array, which keep their types; `tolist` would change dates."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return list(array) if array.ndim else array.item()


def _csv_column(
    rows: list[list[str]], column: str | None, name: str
) -> tuple[list[str], str | None]:
    header, body = ([cell.strip() for cell in rows[0]], rows[1:]) if rows else ([], [])
    if column is None and len(header) > 1:
        raise _error(f"{name} has the columns {few(header)}", "name the column of the ids")
    if column is not None and header.count(column) != 1:
        problem = f"{name} has {header.count(column)} columns {column!r}"
        raise _error(problem, f"its columns are {few(header)}; name one of them")
    position = header.index(column) if column is not None else 0
    ids = []
    for number, row in enumerate(body, start=2):
        if any(cell.strip() for cell in row):
            if len(row) <= position or not row[position].strip():
                raise _error(f"{name} has no id in row {number}", "add the id or delete the row")
            ids.append(row[position])
    return ids, header[0] if column is None and header else None


def _as_id(value: Any, name: str) -> str:
    if isinstance(value, str | UUID):
        return str(value)
    try:
        return value.decode() if isinstance(value, bytes) else str(as_integer(value))
    except (TypeError, UnicodeDecodeError) as error:
        remedy = "ids are a flat list of strings or integers"
        if isinstance(value, float | np.floating) and float(value).is_integer():
            remedy += f"; write {int(value)}, or {str(value)!r} if the id has the point"
        raise _error(f"{name} contains {short(value)}", remedy) from error


def as_value(value: Any, name: str) -> Any:
    """Return a value of a group column if it can be one."""
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.asarray(value)[()]  # a scalar of another array library
    problem = f"{name} contains {short(value)}"
    if is_missing(value):
        raise _error(problem, "leave missing values out")
    try:
        key(value)
    except (TypeError, UnicodeDecodeError) as error:
        remedy = "values are a flat list of strings, numbers or dates"
        raise _error(problem, remedy) from error
    return value


def as_class(value: Any) -> str | int:
    """Return the name or the index of a class."""
    if isinstance(value, str):
        return str(value)
    try:
        return as_integer(value)
    except TypeError as error:
        problem = f"{short(value)} is not a class"
        raise InputError("forget", problem, "give a name or an index") from error


def several(values: Any) -> list[Any]:
    """Return one value, or the entries of a list or array, as a list."""
    if hasattr(values, "__array__") and not isinstance(values, np.generic):
        array = np.asarray(values)
        return list(array) if array.ndim else [array[()]]
    if isinstance(values, str | bytes | Mapping | np.generic) or not isinstance(values, Iterable):
        return [values]
    return list(values)


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
