"""Files of outputs as named arrays that stay on disk: `.npz`, folders of `.npy`, CSV, parquet."""

from __future__ import annotations

import csv
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax import paths
from ltu_jax.errors import InputError, few, short

SMALL = 2**20  # bytes of an array that is read at once
ROWS = 2**14  # of a table, read at once
TEXT = ("part", "id")  # columns of a table that hold text
_PART = np.dtype("S16")  # longer than the name of any part
_NUMBERED = re.compile(r"(.+)\.(\d+)")


@contextmanager
def open_arrays(source: Mapping[str, Any] | str | os.PathLike) -> Iterator[dict[str, np.ndarray]]:
    """Provide the arrays of a source by name; large ones are memory-mapped.

    Args:
      source: arrays by name, or a path: an `.npz` file, a folder of `.npy` files, or a table
        (`.csv`, `.parquet`) with a column for each vector and the columns `NAME.0`, `NAME.1`, ...
        for each matrix. Compressed files and tables are unpacked into a temporary folder.

    Raises:
      InputError: the file is missing, empty or damaged, or holds Python objects.
    """
    if isinstance(source, Mapping):
        yield {str(name): _given(str(name), value) for name, value in source.items()}
        return
    path = paths.local("outputs", source)
    reader = _reader(path)
    with tempfile.TemporaryDirectory(prefix="ltu-outputs-") as scratch:
        try:
            arrays = reader(path, Path(scratch))
        except (zipfile.BadZipFile, EOFError, ValueError, UnicodeDecodeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("outputs", f"{path} cannot be read ({error})", _REMEDY) from error
        if not arrays:
            raise InputError("outputs", f"{path} holds no array", _REMEDY)
        yield arrays


_REMEDY = "write it by np.savez, np.save, or as a table with a column for each output"


def _reader(path: Path):
    if path.is_dir():
        return _from_folder
    try:
        size = path.stat().st_size
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise InputError("outputs", problem, "give an existing file") from error
    readers = {".npz": _from_npz, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix == ".npy":
        remedy = "give the folder with a file for each array, or one .npz file"
        raise InputError("outputs", f"{path} holds a single array", remedy)
    if path.suffix not in readers:
        problem = f"{path} is of the unknown type {path.suffix or 'without a suffix'!r}"
        raise InputError("outputs", problem, f"give a folder or a file of {', '.join(readers)}")
    if not size:
        raise InputError("outputs", f"{path} is empty", _REMEDY)
    return readers[path.suffix]


def _given(name: str, value: Any) -> np.ndarray | Any:
    if name == "about":
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise _ragged(name) from error
    if array.dtype == object:
        raise _objects(name)
    return array


def _ragged(name: str) -> InputError:
    return InputError("outputs", f"{name} has rows of several lengths", "give [N, C]")


def _objects(name: str) -> InputError:
    remedy = "give numbers, or text of fixed width; pickled objects can run code and are not read"
    return InputError("outputs", f"{name} holds Python objects", remedy)


def _from_folder(path: Path, scratch: Path) -> dict[str, np.ndarray]:
    return {file.stem: _load(file.stem, file) for file in sorted(path.glob("*.npy"))}


def _from_npz(path: Path, scratch: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for number, member in enumerate(archive.namelist()):
            name, file = member.removesuffix(".npy"), scratch / f"{number}.npy"
            if name == member:
                raise InputError("outputs", f"{path} holds {member}, not an array", _REMEDY)
            with archive.open(member) as packed, open(file, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, SMALL)
            arrays[name] = _load(name, file)
    return arrays


def _load(name: str, file: Path) -> np.ndarray:
    size = file.stat().st_size
    try:
        return np.load(file, mmap_mode="r" if size > SMALL else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "object" in str(error).lower():
            raise _objects(name) from error
        raise InputError("outputs", f"{name} cannot be read ({error})", _REMEDY) from error


def _from_csv(path: Path, scratch: Path) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = [name.strip() for name in next(reader, [])]

        def batches() -> Iterator[dict[str, np.ndarray]]:
            while rows := list(islice(reader, ROWS)):
                for row in rows:
                    if len(row) != len(names):
                        found = f"{path}, near line {reader.line_num}, has {len(row)} columns"
                        raise InputError("outputs", found, f"give {len(names)}, as in its head")
                yield {
                    name: np.array(column) if name in TEXT else _numbers(name, column)
                    for name, column in zip(names, zip(*rows, strict=True), strict=True)
                }

        return _unpack(path, names, batches(), scratch)


def _numbers(name: str, column: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array(column, dtype=np.float64)
    except ValueError as error:
        raise InputError("outputs", f"{name}: {error}", "give numbers") from error


def _from_parquet(path: Path, scratch: Path) -> dict[str, np.ndarray]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        remedy = 'install it: pip install "ltu-jax[parquet]", or write .npz'
        raise InputError("outputs", "a .parquet file needs pyarrow", remedy) from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError("outputs", f"{path} cannot be read ({error})", _REMEDY) from error

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for batch in file.iter_batches(ROWS):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield {name: _parquet_column(name, column) for name, column in columns.items()}

    with file:
        return _unpack(path, list(file.schema_arrow.names), batches(), scratch)


def _parquet_column(name: str, column: Any) -> np.ndarray:
    if column.null_count:
        found = f"{name} has {column.null_count} missing values"
        raise InputError("outputs", found, "give a value in every row")
    if name in TEXT:
        return np.array(column.to_pylist(), dtype=str)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == object:  # a column of lists
        try:
            return np.stack(values)
        except (ValueError, TypeError) as error:
            raise _ragged(name) from error
    return values


def _unpack(
    path: Path, names: list[str], batches: Iterator[Mapping[str, np.ndarray]], scratch: Path
) -> dict[str, np.ndarray]:
    """Write the columns of a table to files, a file for each array, and map them."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError("outputs", f"{path} has two columns {twice[0]!r}", "name each once")
    groups = _groups(path, names)
    ids: list[np.ndarray] = []
    shapes: dict[str, tuple[int, ...]] = {}
    count = 0
    for batch in batches:
        for name, columns in groups.items():
            values = np.stack([batch[c] for c in columns], 1) if columns else batch[name]
            if name == "id":
                ids.append(values)
                continue
            dtype = _PART if name == "part" else np.dtype(np.float64)
            if name == "part":
                values = np.char.encode(values, "utf-8")
            if values.shape[1:] != shapes.setdefault(name, values.shape[1:]):
                raise _ragged(name)
            with open(scratch / f"{name}.raw", "ab") as file:
                values.astype(dtype, order="C").tofile(file)
        count += len(next(iter(batch.values()), ()))
    if not count:
        raise InputError("outputs", f"{path} has no rows", _REMEDY)
    arrays: dict[str, np.ndarray] = {"id": np.concatenate(ids)} if ids else {}
    for name, shape in shapes.items():
        dtype = _PART if name == "part" else np.dtype(np.float64)
        arrays[name] = np.memmap(scratch / f"{name}.raw", dtype, "r", shape=(count, *shape))
    return {("labels" if name == "label" else name): array for name, array in arrays.items()}


def _groups(path: Path, names: list[str]) -> dict[str, list[str]]:
    """Return the columns `NAME.0`, `NAME.1`, ... of each matrix; none for a vector."""
    numbered: dict[str, dict[int, str]] = {}
    groups: dict[str, list[str]] = {}
    for name in names:
        if "/" in name or "\\" in name or not name:
            raise InputError("outputs", f"{path} has the column {short(name)}", "rename it")
        if found := _NUMBERED.fullmatch(name):
            numbered.setdefault(found[1], {})[int(found[2])] = name
        else:
            groups[name] = []
    for name, columns in numbered.items():
        if sorted(columns) != list(range(len(columns))) or name in groups:
            problem = f"{path} has for {name} the columns {few(sorted(columns.values()))}"
            raise InputError(
                "outputs", problem, f"name them {name}.0, {name}.1, ... for each class"
            )
        groups[name] = [columns[i] for i in range(len(columns))]
    return groups
