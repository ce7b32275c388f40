"""Whom to forget, and the disjoint index sets that follow from it. NumPy only.

A request names training examples by id, class, group column or random share; `resolve` turns it
into indices into the exact training set, `split` cuts everything else around them. The test part
and the attack members are for the report alone: no method and no selection ever sees them.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ltu_jax.data.ids import as_integer, read_ids
from ltu_jax.errors import InputError, few, short
from ltu_jax.types import Dataset, Split

# Each part of a split has a random stream of its own, so that one knob moves one part only.
_FORGET, _ACCESSIBLE, _VALIDATION, _ATTACK = range(4)


@dataclass(frozen=True)
class Request:
    """A deletion request, made by `by_ids`, `by_class`, `by_group` or `by_fraction`.

    Attributes:
      kind: which of the four it is; the command line's flag is `--forget-<kind>`.
      value: the ids (strings), the classes (names or indices), `(column, value)` or
        `(fraction, seed)`.
      header: the first line of a one-column CSV, taken as the column's name without being asked.
    """

    kind: Literal["ids", "class", "group", "fraction"]
    value: tuple[Any, ...]
    header: str | None = None

    def error(self, problem: str) -> InputError:
        """The one-line error that names the flag and the value before the problem."""
        if self.kind in ("ids", "class"):
            shown = few(self.value)
        else:
            shown = self.value[0] if self.kind == "fraction" else repr("=".join(self.value))
        return InputError(f"--forget-{self.kind} {shown}: {problem}")


class AttackMembers(NamedTuple):
    """Training examples on which the report's attacks are fitted as members.

    Attributes:
      indices: sorted, into the training set.
      seen: whether the method could see them too, because nothing of retain was left unseen.
    """

    indices: np.ndarray
    seen: bool


def by_ids(ids: str | os.PathLike | Iterable, *, column: str | None = None) -> Request:
    """Request the examples with these ids of the data set; an integer 7 means the id `"7"`.

    Args:
      ids: strings or integers, or the path of a file of them: `.csv` with a header line, `.json`
        (one flat list), `.npy` (one axis), anything else as UTF-8 text with one id a line.
      column: the CSV column that holds the ids; needed where there is more than one.

    Raises:
      InputError: the file cannot be read as such, or something in it is no id.

    >>> by_ids([3, "7"]).value
    ('3', '7')
    """
    return Request("ids", *read_ids(ids, column))


def by_class(classes: str | int | Iterable[str | int]) -> Request:
    """Request all examples of a class or of several, each given by name or by index.

    Raises:
      InputError: something in it is neither a string nor an integer.
    """
    several: Iterable[Any] = [classes]
    if isinstance(classes, Iterable) and not isinstance(classes, str | bytes):
        several = classes
    return Request("class", tuple(map(_as_class, several)))


def by_group(column: str, value: Any) -> Request:
    """Request all examples with this value in a group column; they are compared as strings."""
    return Request("group", (str(column), str(value)))


def by_fraction(fraction: float, *, seed: int = 0) -> Request:
    """Request a random share in (0, 1) of the training set.

    Raises:
      InputError: the fraction is outside (0, 1), or the seed is negative.
    """
    return Request("fraction", (_fraction(fraction, "--forget-fraction"), _checked_seed(seed)))


def describe(request: Request) -> dict[str, Any]:
    """The request as a JSON-able dict, without any id: those stay out of reports.

    Of ids it tells their number and `sha256`, which is that of `LC_ALL=C sort ids.txt`.
    """
    if request.kind == "ids":
        lines = "".join(f"{i}\n" for i in sorted(request.value))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        return {"kind": "ids", "count": len(request.value), "sha256": digest}
    if request.kind == "class":
        return {"kind": "class", "value": list(request.value)}
    names = ("column", "value") if request.kind == "group" else ("fraction", "seed")
    return {"kind": request.kind, **dict(zip(names, request.value, strict=True))}


def resolve(request: Request, dataset: Dataset) -> np.ndarray:
    """The request's sorted int64 indices into `dataset.train`.

    Raises:
      InputError: an id, class, column or value that is not there, an id given twice, or a request
        for no example or for all of them.
    """
    total = len(dataset.train.labels)
    if request.kind == "ids":
        forget = _resolve_ids(request, dataset)
    elif request.kind == "class":
        forget = np.flatnonzero(np.isin(dataset.train.labels, _resolve_classes(request, dataset)))
    elif request.kind == "group":
        forget = _resolve_group(request, dataset)
    else:
        fraction, seed = request.value
        forget = _rng(seed, _FORGET).permutation(total)[: round(fraction * total)]
    if not 0 < len(forget) < total:
        which, remedy = ("all", "leave at least one") if len(forget) else ("none", "select some")
        raise request.error(f"selects {which} of the {total} training examples; {remedy}")
    return np.sort(forget).astype(np.int64)


def split(
    dataset: Dataset, forget: np.ndarray, *, retain_fraction: float = 0.3, seed: int = 0
) -> Split:
    """Cut the training set around `forget`, and the held-out set into validation and test.

    Accessible is a class-stratified share `retain_fraction` in (0, 1] of retain. Validation is a
    stratified half of the held-out set, but no more than a fifth of the training set's size. The
    parts are drawn independently: another `retain_fraction` leaves validation and test alone.

    Raises:
      InputError: the fraction is outside (0, 1] or leaves nothing accessible, `forget` is not a
        part of the training set, or the held-out set has fewer than two examples.
    """
    labels = np.asarray(dataset.train.labels)
    heldout = np.asarray(dataset.heldout.labels)
    forget = _checked_forget(forget, len(labels))
    if len(heldout) < 2:
        raise InputError(
            f"--data {dataset.name}: has {len(heldout)} held-out examples; "
            "at least 2 are needed, one for validation and one for the test"
        )
    retain = np.setdiff1d(np.arange(len(labels)), forget)
    share = _fraction(retain_fraction, "--retain-fraction", closed=True)
    accessible_size = round(share * len(retain))
    if accessible_size == 0:
        raise InputError(
            f"--retain-fraction {share}: leaves nothing accessible of {len(retain)} retained "
            "examples; raise it"
        )
    picked = _stratified(_rng(seed, _ACCESSIBLE), labels[retain], accessible_size)
    validation_size = max(1, min(len(heldout) // 2, round(0.2 * len(labels))))
    validation = _stratified(_rng(seed, _VALIDATION), heldout, validation_size)
    test = np.setdiff1d(np.arange(len(heldout)), validation)
    return Split(forget, retain, retain[picked], validation, test)


def attack_members(split: Split, *, seed: int, size: int) -> AttackMembers:
    """At most `size` examples of retain that the method never saw, for the report's attacks.

    Where the whole of retain is accessible they are drawn from it, and `seen` says so.

    Raises:
      InputError: the size is below 1.
    """
    if size < 1:
        raise InputError(f"size {size}: no attack members can be drawn; give at least 1")
    unseen = np.setdiff1d(split.retain, split.accessible)
    pool = unseen if len(unseen) else split.retain
    picked = _rng(seed, _ATTACK).permutation(len(pool))[:size]
    return AttackMembers(np.sort(pool[picked]), seen=len(unseen) == 0)


def save_split(path: str | os.PathLike, split: Split) -> None:
    """Write the index sets to one `.npz` file."""
    with open(path, "wb") as file:
        np.savez(file, **split._asdict())


def load_split(path: str | os.PathLike) -> Split:
    """Read what `save_split` wrote.

    Raises:
      InputError: the file is not there or holds something else.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Split(*(arrays[name] for name in Split._fields))
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{os.fspath(path)!r}: is not a saved split ({type(error).__name__}); "
            "give the file that save_split wrote"
        ) from error


def _resolve_ids(request: Request, dataset: Dataset) -> np.ndarray:
    known = np.asarray(dataset.train_ids).astype(str).tolist()
    index_of = {name: index for index, name in enumerate(known)}
    if len(index_of) < len(known):
        raise InputError(f"--data {dataset.name}: several training examples share an id")
    if request.header in index_of:
        # A file without a header line would else lose its first id without a word.
        raise request.error(
            f"the CSV's first line, {request.header!r}, is an id where a column's name is due; "
            "add a header line, or save it as .txt"
        )
    unknown = [name for name in request.value if name not in index_of]
    if unknown:
        raise request.error(
            f"{len(unknown)} of {len(request.value)} ids are not in the training set: "
            f"{few(unknown)}; ids look like {few(known)}"
        )
    indices = np.array([index_of[name] for name in request.value], np.int64)
    values, counts = np.unique(indices, return_counts=True)
    if len(values) < len(indices):
        twice = [known[i] for i in values[counts > 1]]
        raise request.error(f"{len(twice)} ids are duplicated: {few(twice)}; give each id once")
    return indices


def _resolve_classes(request: Request, dataset: Dataset) -> list[int]:
    names = dataset.class_names
    by_number = {str(index): index for index in range(len(names))}

    def index(value: str | int) -> int:
        if value in names:
            return names.index(value)
        if str(value) in by_number:
            return by_number[str(value)]
        raise request.error(
            f"no class {value!r}; give an index below {len(names)} or a name such as {few(names)}"
        )

    return [index(value) for value in request.value]


def _resolve_group(request: Request, dataset: Dataset) -> np.ndarray:
    column, value = request.value
    if column not in dataset.groups:
        there = f"its columns are {few(dataset.groups)}" if dataset.groups else "it has none"
        raise request.error(f"{dataset.name} has no group column {column!r}; {there}")
    values = np.asarray(dataset.groups[column]).astype(str)
    if value not in values:
        raise request.error(f"no {value!r} in {column!r}; it holds {few(np.unique(values))}")
    return np.flatnonzero(values == value)


def _stratified(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """Sorted positions of a random `size`, shared among classes by largest remainder."""
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
        raise InputError(
            f"--forget-class {short(value)}: is no class; give a name or an index"
        ) from error


def _fraction(value: Any, flag: str, *, closed: bool = False) -> float:
    """`value` as a float in (0, 1), or in (0, 1] where `closed`."""
    try:
        fraction = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 < fraction < 1 and not (closed and fraction == 1):
        interval = "(0, 1]" if closed else "(0, 1)"
        raise InputError(f"{flag} {short(value)}: is outside {interval}; give a fraction in it")
    return fraction


def _checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"--seed {short(seed)}: is no seed; give an integer of at least 0")
    return int(seed)


def _checked_forget(forget: np.ndarray, total: int) -> np.ndarray:
    """Sorted, unique int64 indices; a mask or a negative index would forget the wrong examples."""
    indices = np.unique(forget)
    if (
        indices.dtype.kind not in "iu"
        or not 0 < len(indices) < total
        or not 0 <= indices[0] <= indices[-1] < total
    ):
        raise InputError(
            f"forget {few(indices)}: is no proper part of the indices below {total}; "
            "take it from request.resolve"
        )
    return indices.astype(np.int64)


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([_checked_seed(seed), stream])
