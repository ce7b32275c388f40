"""Deletion requests, and the disjoint index sets that follow from them.

A request names training examples by id, class, group column or random share. `resolve` turns it
into indices into the training set, and `split` divides everything else. Only the report sees the
test part and the attack members; no method and no selection does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ltu_jax.data import draws
from ltu_jax.data.classes import class_indices
from ltu_jax.data.columns import is_missing
from ltu_jax.data.ids import as_class, as_value, read_ids, several
from ltu_jax.data.matching import Match, by_text, by_value, match, text, warn_of_likeness
from ltu_jax.errors import InputError, few, short
from ltu_jax.files import digest, read_arrays, write_arrays
from ltu_jax.types import Dataset, Split


@dataclass(frozen=True)
class Request:
    """A deletion request, made by `by_ids`, `by_class`, `by_group` or `by_fraction`.

    Attributes:
      type: which of the four.
      value: the ids (strings, or values of `column`), the classes (names or indices), the values of
        `column`, or `(fraction, seed)`.
      column: the group column of the values, or the CSV column of the ids.
      header: first line of a one-column CSV, assumed to be the column's name.
      is_csv: whether ids were read from a CSV; `column` then need not be a group column.
      typed: whether the types of the values say anything; in text files all are text.
    """

    type: Literal["ids", "class", "group", "fraction"]
    value: tuple[Any, ...]
    column: str | None = None
    header: str | None = None
    is_csv: bool = False
    typed: bool = True

    def error(self, problem: str, remedy: str) -> InputError:
        """Return an error that shows the requested value before the problem."""
        if self.type == "group":
            shown = few(f"{self.column}={value}" for value in self.value)
        else:
            shown = few(self.value[:1] if self.type == "fraction" else self.value)
        return InputError("forget", f"{self.type} {shown}: {problem}", remedy)


class AttackMembers(NamedTuple):
    """Training examples on which the report's attacks are fitted as members.

    Attributes:
      indices: sorted, into the training set.
      seen: whether the method could see them, because it could see all of retain.
    """

    indices: np.ndarray
    seen: bool


def by_ids(ids: str | os.PathLike | Iterable, *, column: str | None = None) -> Request:
    """Request the examples with these ids of the data set; an integer 7 means the id `"7"`.

    With `column`, the ids are values of that group column, and all examples that hold one of them
    are requested: all records of some patients. Of a CSV, `column` is also the column that is read;
    if the data set has no group column of this name, the ids are those of the data set.

    Ids that are requested twice count once. Ids of the data that differ only in outer spaces or
    Unicode form are taken with a warning, if no other id is like them.

    Args:
      ids: strings or integers, or the path of a file of them: `.csv` with a header line, `.json`
        (one flat list), `.npy` (one axis), or UTF-8 text with one id per line. Values of a column
        may also be floats, truth values or dates.
      column: the group column, and the CSV column that is read.

    Raises:
      InputError: the file cannot be read, or an entry is not an id.

    >>> by_ids([3, "7"]).value
    ('3', '7')
    """
    if column is not None and not isinstance(column, str):
        raise InputError("column", f"is {short(column)}", "give the name of a column")
    values, header, is_csv, typed = read_ids(ids, column)
    return Request("ids", values, column, header, is_csv, typed)


def by_class(
    classes: str | int | Iterable[str | int] = (),
    *,
    name: str | Iterable[str] = (),
    index: int | Iterable[int] = (),
) -> Request:
    """Request all examples of one or several classes, given by name or by index.

    Args:
      classes: names or indices. A value that is the name of one class and the index of another is
        refused; `"name=1"` and `"index=1"` are not ambiguous, on the command line too.
      name: names only.
      index: indices only.

    Raises:
      InputError: an entry is neither a string nor an integer.

    >>> by_class(index=1) == by_class("index=1")
    True
    """
    values = [as_class(value) for value in several(classes)]
    values += [f"name={as_class(value)}" for value in several(name)]
    for value in several(index):
        if isinstance(as_class(value), str):
            raise InputError("index", f"is {short(value)}", "give an integer, or use `name`")
        values.append(f"index={as_class(value)}")
    return Request("class", tuple(values))


def by_group(column: str, value: Any) -> Request:
    """Request all examples with this value, or one of these values, in a group column.

    Values are compared by type and value. If no example has an equal one, 12, 12.0 and "12" are
    alike, and so are a date and its text; the match is warned of, and refused if it is ambiguous.

    Raises:
      InputError: a value is missing or cannot be in a column.

    >>> by_group("site", ["north", "south"]).value
    ('north', 'south')
    """
    values = tuple(as_value(one, "the request") for one in several(value))
    return Request("group", values, str(column))


def by_fraction(fraction: float, *, seed: int = 0) -> Request:
    """Request a random share in (0, 1) of the training set.

    Raises:
      InputError: the fraction is outside (0, 1), or the seed is negative.
    """
    return Request("fraction", (draws.as_fraction(fraction, "forget"), draws.checked_seed(seed)))


def describe(request: Request) -> dict[str, Any]:
    """Return the request as JSON values, without ids and values of columns.

    Those stay out of reports. Their number and `sha256` are there, which is that of
    `LC_ALL=C sort -u ids.txt`.
    """
    if request.type == "class":
        return {"type": "class", "value": list(request.value)}
    if request.type == "fraction":
        return {"type": "fraction", **dict(zip(("fraction", "seed"), request.value, strict=True))}
    texts = sorted({text(value) for value in request.value})
    by_column = request.column is not None and not request.is_csv
    return {
        "type": request.type,
        **({"column": request.column} if by_column else {}),
        "count": len(texts),
        "sha256": digest("".join(f"{line}\n" for line in texts).encode()),
    }


def resolve(request: Request, dataset: Dataset) -> np.ndarray:
    """Return the request's sorted int64 indices into `dataset.train`.

    Raises:
      InputError: an id, class, column or value does not exist or is ambiguous, or the request
        selects no example or all of them.
    """
    total = len(dataset.train.labels)
    if request.type in ("ids", "group"):
        forget = _resolve_values(request, dataset)
    elif request.type == "class":
        forget = np.flatnonzero(
            np.isin(
                dataset.train.labels,
                class_indices(request.value, dataset.class_names, request.error),
            )
        )
    else:
        fraction, seed = request.value
        forget = draws.rng(seed, draws.FORGET).permutation(total)[: round(fraction * total)]
    if not 0 < len(forget) < total:
        which, remedy = ("all", "leave at least one") if len(forget) else ("none", "select some")
        raise request.error(f"selects {which} of the {total} training examples", remedy)
    return np.sort(forget).astype(np.int64)


def matched(request: Request, dataset: Dataset) -> Match:
    """Return what a request by ids or by group finds in the training set.

    Raises:
      InputError: the data set has no such group column, or has an id twice.
    """
    if not _is_by_column(request, dataset):
        found = match(request.value, dataset.train_ids, by_text, typed=request.typed)
        if len(set(dataset.train_ids)) < len(dataset.train_ids):
            raise InputError("data", f"{dataset.name} has training ids twice", "make ids unique")
        return found
    if request.column not in dataset.groups:
        has = f"choose among {few(dataset.groups)}" if dataset.groups else "it has none"
        raise request.error(f"{dataset.name} has no group column {request.column!r}", has)
    column = dataset.groups[str(request.column)]
    try:
        return match(request.value, column, by_value, typed=request.typed)
    except TypeError as error:
        problem = f"group column {request.column!r} of {dataset.name} cannot be searched ({error})"
        raise request.error(problem, "store it as text, numbers or dates") from error


def as_selected(request: Request, dataset: Dataset, forget: np.ndarray) -> Request:
    """Return the request with the ids, values or class names of the data itself.

    Args:
      request: as the user made it, or with any value.
      dataset: of the request.
      forget: rows of the training set that it selects.
    """
    if request.type == "class":
        classes = class_indices(request.value, dataset.class_names, request.error)
        return Request("class", tuple(dataset.class_names[index] for index in classes))
    if request.type == "fraction":
        return request
    if not _is_by_column(request, dataset):
        return Request("ids", tuple(map(str, dataset.train_ids[forget])))
    found = dict.fromkeys(dataset.groups[str(request.column)][forget])
    return Request(request.type, tuple(found), request.column)


def split(
    dataset: Dataset, forget: np.ndarray, *, retain_fraction: float = 0.3, seed: int = 0
) -> Split:
    """Divide the training set around `forget`, and the held-out set into validation and test.

    Accessible is a class-stratified share `retain_fraction` in (0, 1] of retain. Validation is a
    stratified half of the held-out set, but at most a fifth of the training set's size. The parts
    are drawn independently: another `retain_fraction` does not change validation and test.

    Raises:
      InputError: the fraction is outside (0, 1] or leaves nothing accessible, `forget` is not a
        part of the training set, or the held-out set has fewer than two examples.
    """
    labels = np.asarray(dataset.train.labels)
    heldout = np.asarray(dataset.heldout.labels)
    forget = _checked_forget(forget, len(labels))
    if len(heldout) < 2:
        raise InputError(
            "data",
            f"{dataset.name} has {len(heldout)} held-out examples",
            "give at least 2, one for validation and one for the test",
        )
    retain = np.setdiff1d(np.arange(len(labels)), forget)
    share = draws.as_fraction(retain_fraction, "retain_fraction", closed=True)
    accessible_size = round(share * len(retain))
    if accessible_size == 0:
        problem = f"is {share}, which selects none of {len(retain)} retained examples"
        raise InputError("retain_fraction", problem, "increase it")
    picked = draws.stratified(draws.rng(seed, draws.ACCESSIBLE), labels[retain], accessible_size)
    validation_size = max(1, min(len(heldout) // 2, round(0.2 * len(labels))))
    validation = draws.stratified(draws.rng(seed, draws.VALIDATION), heldout, validation_size)
    test = np.setdiff1d(np.arange(len(heldout)), validation)
    return Split(forget, retain, retain[picked], validation, test)


def attack_members(split: Split, *, seed: int, size: int) -> AttackMembers:
    """Draw at most `size` retain examples that the method did not see, for the report's attacks.

    If all of retain is accessible they are drawn from it, and `seen` is True.

    Raises:
      InputError: the size is below 1.
    """
    if size < 1:
        raise InputError("size", f"is {size}", "give at least 1")
    unseen = np.setdiff1d(split.retain, split.accessible)
    candidates = unseen if len(unseen) else split.retain
    picked = draws.rng(seed, draws.ATTACK).permutation(len(candidates))[:size]
    return AttackMembers(np.sort(candidates[picked]), seen=len(unseen) == 0)


def save_split(path: str | os.PathLike, split: Split) -> None:
    """Write the index sets to one `.npz` file."""
    write_arrays(Path(path), split._asdict(), mode=0o600)


def load_split(path: str | os.PathLike) -> Split:
    """Read the index sets that `save_split` wrote.

    Raises:
      InputError: the file is missing or has another content.
    """
    return Split(*read_arrays(Path(path), Split._fields, "run"))


def _is_by_column(request: Request, dataset: Dataset) -> bool:
    """Return whether the values are those of a group column instead of ids of the data set."""
    return request.column is not None and (not request.is_csv or request.column in dataset.groups)


def _resolve_values(request: Request, dataset: Dataset) -> np.ndarray:
    found = matched(request, dataset)
    what = "values" if _is_by_column(request, dataset) else "ids"
    if request.header is not None and request.header in dataset.train_ids:
        # Without this check, a file without a header line would silently lose its first id.
        raise request.error(
            f"the first line of the CSV file, {request.header!r}, is an id instead of a column's "
            "name",
            "add a header line, or save the file as .txt",
        )
    if found.ambiguous:
        raise request.error(
            f"{few(found.ambiguous)} may mean several {what}, which differ in spaces, Unicode form "
            "or type",
            "write them exactly as the data set does",
        )
    if found.unknown:
        raise _unknown(request, dataset, found.unknown, what)
    warn_of_likeness(found, what)
    return found.rows


def _unknown(request: Request, dataset: Dataset, unknown: list[Any], what: str) -> InputError:
    """Return the error for values that the training set does not have, with near ones."""
    by_column = _is_by_column(request, dataset)
    column = dataset.groups[str(request.column)] if by_column else dataset.train_ids
    known = list(dict.fromkeys(text(value) for value in column if not is_missing(value)))
    near = [get_close_matches(text(value), known[:20_000], 1) for value in unknown[:3]]
    near = list(dict.fromkeys(one for found in near for one in found))
    remedy = f"near ones are {few(near)}; " if near else ""
    remedy += f"{what} look like {few(known)}"
    elsewhere = [
        name
        for name, values in dataset.groups.items()
        if not by_column and set(map(text, unknown)) & set(map(str, values))
    ]
    if elsewhere:
        remedy = f"if they are values of the group column {elsewhere[0]!r}, give it as `column`"
    where = f"in the group column {request.column!r}" if by_column else "in the training set"
    count = len(unknown), len(request.value)
    return request.error(f"{count[0]} of {count[1]} {what} are not {where}: {few(unknown)}", remedy)


def _checked_forget(forget: np.ndarray, total: int) -> np.ndarray:
    """Return sorted int64 indices; a mask or a negative index would forget other examples."""
    indices = np.unique(forget)
    if (
        indices.dtype.kind not in "iu"
        or not 0 < len(indices) < total
        or not 0 <= indices[0] <= indices[-1] < total
    ):
        problem = f"is {few(indices)}, not a proper part of the indices below {total}"
        raise InputError("forget", problem, "give the result of `resolve`")
    return indices.astype(np.int64)
