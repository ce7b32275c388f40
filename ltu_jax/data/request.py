"""Deletion requests, and the disjoint index sets that follow from them.

A request names training examples by id, class, group column or random share. `resolve` turns it
into indices into the training set, and `split` divides everything else. Only the report sees the
test part and the attack members; no method and no selection does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ltu_jax.data.ids import as_integer, read_ids
from ltu_jax.errors import InputError, few, short
from ltu_jax.files import digest, read_arrays, write_arrays
from ltu_jax.types import Dataset, Split

# Each part of a split has its own random stream, so that a changed option changes one part only.
_FORGET, _ACCESSIBLE, _VALIDATION, _ATTACK = range(4)


@dataclass(frozen=True)
class Request:
    """A deletion request, made by `by_ids`, `by_class`, `by_group` or `by_fraction`.

    Attributes:
      type: which of the four.
      value: the ids (strings), the classes (names or indices), `(column, value)` or
        `(fraction, seed)`.
      header: first line of a one-column CSV, assumed to be the column's name.
    """

    type: Literal["ids", "class", "group", "fraction"]
    value: tuple[Any, ...]
    header: str | None = None

    def error(self, problem: str, remedy: str) -> InputError:
        """Return an error that shows the requested value before the problem."""
        if self.type == "group":
            shown = repr("=".join(self.value))
        else:
            shown = few(self.value if self.type in ("ids", "class") else self.value[:1])
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

    Args:
      ids: strings or integers, or the path of a file of them: `.csv` with a header line, `.json`
        (one flat list), `.npy` (one axis), or UTF-8 text with one id per line.
      column: the CSV column of the ids; needed if there is more than one.

    Raises:
      InputError: the file cannot be read, or an entry is not an id.

    >>> by_ids([3, "7"]).value
    ('3', '7')
    """
    return Request("ids", *read_ids(ids, column))


def by_class(classes: str | int | Iterable[str | int]) -> Request:
    """Request all examples of one or several classes, given by name or by index.

    Raises:
      InputError: an entry is neither a string nor an integer.
    """
    several: Iterable[Any] = [classes]
    if isinstance(classes, Iterable) and not isinstance(classes, str | bytes):
        several = classes
    return Request("class", tuple(map(_as_class, several)))


def by_group(column: str, value: Any) -> Request:
    """Request all examples with this value in a group column; values are compared as strings."""
    return Request("group", (str(column), str(value)))


def by_fraction(fraction: float, *, seed: int = 0) -> Request:
    """Request a random share in (0, 1) of the training set.

    Raises:
      InputError: the fraction is outside (0, 1), or the seed is negative.
    """
    return Request("fraction", (_fraction(fraction, "forget"), _checked_seed(seed)))


def describe(request: Request) -> dict[str, Any]:
    """Return the request as a JSON-serialisable dict without ids, which stay out of reports.

    For ids it holds their number and `sha256`, which is that of `LC_ALL=C sort ids.txt`.
    """
    if request.type == "ids":
        lines = "".join(f"{i}\n" for i in sorted(request.value))
        return {"type": "ids", "count": len(request.value), "sha256": digest(lines.encode())}
    if request.type == "class":
        return {"type": "class", "value": list(request.value)}
    names = ("column", "value") if request.type == "group" else ("fraction", "seed")
    return {"type": request.type, **dict(zip(names, request.value, strict=True))}


def resolve(request: Request, dataset: Dataset) -> np.ndarray:
    """Return the request's sorted int64 indices into `dataset.train`.

    Raises:
      InputError: an id, class, column or value does not exist, an id occurs twice, or the request
        selects no example or all of them.
    """
    total = len(dataset.train.labels)
    if request.type == "ids":
        forget = _resolve_ids(request, dataset)
    elif request.type == "class":
        forget = np.flatnonzero(np.isin(dataset.train.labels, _resolve_classes(request, dataset)))
    elif request.type == "group":
        forget = _resolve_group(request, dataset)
    else:
        fraction, seed = request.value
        forget = _rng(seed, _FORGET).permutation(total)[: round(fraction * total)]
    if not 0 < len(forget) < total:
        which, remedy = ("all", "leave at least one") if len(forget) else ("none", "select some")
        raise request.error(f"selects {which} of the {total} training examples", remedy)
    return np.sort(forget).astype(np.int64)


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
    share = _fraction(retain_fraction, "retain_fraction", closed=True)
    accessible_size = round(share * len(retain))
    if accessible_size == 0:
        problem = f"is {share}, which selects none of {len(retain)} retained examples"
        raise InputError("retain_fraction", problem, "increase it")
    picked = _stratified(_rng(seed, _ACCESSIBLE), labels[retain], accessible_size)
    validation_size = max(1, min(len(heldout) // 2, round(0.2 * len(labels))))
    validation = _stratified(_rng(seed, _VALIDATION), heldout, validation_size)
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
    picked = _rng(seed, _ATTACK).permutation(len(candidates))[:size]
    return AttackMembers(np.sort(candidates[picked]), seen=len(unseen) == 0)


def save_split(path: str | os.PathLike, split: Split) -> None:
    """Write the index sets to one `.npz` file."""
    write_arrays(Path(path), split._asdict())


def load_split(path: str | os.PathLike) -> Split:
    """Read the index sets that `save_split` wrote.

    Raises:
      InputError: the file is missing or has another content.
    """
    return Split(*read_arrays(Path(path), Split._fields, "run"))


def _resolve_ids(request: Request, dataset: Dataset) -> np.ndarray:
    known = np.asarray(dataset.train_ids).astype(str).tolist()
    index_of = {name: index for index, name in enumerate(known)}
    if len(index_of) < len(known):
        raise InputError("data", f"{dataset.name} has training ids twice", "make ids unique")
    if request.header in index_of:
        # Without this check, a file without a header line would silently lose its first id.
        raise request.error(
            f"the first line of the CSV file, {request.header!r}, is an id instead of a column's "
            "name",
            "add a header line, or save the file as .txt",
        )
    unknown = [name for name in request.value if name not in index_of]
    if unknown:
        raise request.error(
            f"{len(unknown)} of {len(request.value)} ids are not in the training set: "
            f"{few(unknown)}",
            f"ids look like {few(known)}",
        )
    indices = np.array([index_of[name] for name in request.value], np.int64)
    values, counts = np.unique(indices, return_counts=True)
    if len(values) < len(indices):
        twice = [known[i] for i in values[counts > 1]]
        raise request.error(f"{len(twice)} ids are duplicated: {few(twice)}", "give each id once")
    return indices


def _resolve_classes(request: Request, dataset: Dataset) -> list[int]:
    names = dataset.class_names
    by_number = {str(index): index for index in range(len(names))}

    def index(value: str | int) -> int:
        if value in names:
            return names.index(value)
        if str(value) in by_number:
            return by_number[str(value)]
        remedy = f"give an index below {len(names)} or a name such as {few(names)}"
        raise request.error(f"there is no class {value!r}", remedy)

    return [index(value) for value in request.value]


def _resolve_group(request: Request, dataset: Dataset) -> np.ndarray:
    column, value = request.value
    if column not in dataset.groups:
        remedy = f"choose among {few(dataset.groups)}" if dataset.groups else "it has no columns"
        raise request.error(f"{dataset.name} has no group column {column!r}", remedy)
    values = np.asarray(dataset.groups[column]).astype(str)
    if value not in values:
        remedy = f"choose among {few(np.unique(values))}"
        raise request.error(f"column {column!r} does not contain {value!r}", remedy)
    return np.flatnonzero(values == value)


def _stratified(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """Return sorted positions of a random `size`, divided among classes by largest remainder."""
    classes, counts = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(counts * size, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    picked = [
        rng.permutation(np.flatnonzero(labels == c))[:n]
        for c, n in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(picked))


def _as_class(value: Any) -> str | int:
    if isinstance(value, str):
        return str(value)
    try:
        return as_integer(value)
    except TypeError as error:
        problem = f"{short(value)} is not a class"
        raise InputError("forget", problem, "give a name or an index") from error


def _fraction(value: Any, argument: str, *, closed: bool = False) -> float:
    """Return `value` as a float in (0, 1), or in (0, 1] if `closed`."""
    try:
        fraction = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 < fraction < 1 and not (closed and fraction == 1):
        interval = "(0, 1]" if closed else "(0, 1)"
        raise InputError(argument, f"is {short(value)}", f"give a fraction in {interval}")
    return fraction


def _checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError("seed", f"is {short(seed)}", "give an integer of at least 0")
    return int(seed)


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


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([_checked_seed(seed), stream])
