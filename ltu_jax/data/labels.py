"""Labels as users have them: one column, one-hot rows, names, codes, truth values or floats."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.data.columns import as_array, is_missing
from ltu_jax.errors import InputError, few, short, warn

_PLAIN = "give integers [N], one class per example"


def as_classes(
    parts: Mapping[str, Any], class_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Return integer labels `[N]` of each part, and the names of all classes.

    Labels of shape `(N, 1)` and one-hot rows are taken as classes, with a warning. Names are sorted
    and numbered, or looked up in `class_names`. Integers that leave most numbers below the largest
    unused, such as 10, 20 and 30, are codes: they are numbered in their order.

    Args:
      parts: labels by argument name, `train` first.
      class_names: `C` names; None takes them from the labels.

    Raises:
      InputError: the labels are not one class per example.

    >>> labels, names = as_classes({"train": ["cat", "dog"], "heldout": ["dog"]}, None)
    >>> labels["heldout"].tolist(), names
    ([1], ['cat', 'dog'])
    """
    flat = {argument: _flat(argument, labels) for argument, labels in parts.items()}
    if widths := {width for _, width in flat.values() if width}:
        class_names = list(map(str, range(max(widths)))) if class_names is None else class_names
    labels = {argument: _typed(argument, values) for argument, (values, _) in flat.items()}
    kinds = {values.dtype.kind for values in labels.values()}
    if kinds == {"U"}:
        return _by_name(labels, class_names)
    if "U" in kinds:
        shown = ", ".join(f"{name}: {few(values)}" for name, values in labels.items())
        raise InputError("heldout", f"has labels of another type ({shown})", _PLAIN)
    if kinds == {"b"} and class_names is None:
        class_names = ["False", "True"]
    labels = {name: v.astype(np.int64) if v.dtype == bool else v for name, v in labels.items()}
    if class_names is None:
        return _numbered(labels)
    return _in_names(labels, class_names)


def warn_of_empty_classes(labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Warn of classes without a training example; most often the labels are not 0 to C - 1."""
    empty = len(class_names) - len(np.unique(labels))
    if empty:
        count = "1 class has" if empty == 1 else f"{empty} classes have"
        warn(
            f"{count} no training example, of {len(class_names)} in all; if labels are codes or "
            "start at 1, number the classes 0, 1, 2, ..."
        )


def _flat(argument: str, labels: Any) -> tuple[np.ndarray, int | None]:
    """Return labels `[N]`, and the number of classes where they were one-hot rows."""
    labels = as_array(argument, labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        warn(f"{argument}: labels of shape [N, 1] are taken as one column of classes")
        return labels[:, 0], None
    if labels.ndim == 2 and labels.size:
        return _from_one_hot(argument, labels), labels.shape[1]
    if labels.ndim != 1 or not len(labels):
        raise InputError(argument, f"has labels {labels.dtype}{list(labels.shape)}", _PLAIN)
    return labels, None


def _from_one_hot(argument: str, labels: np.ndarray) -> np.ndarray:
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full(labels.shape, np.nan)
    good = ((numbers == 0) | (numbers == 1)).all(1) & (numbers.sum(1) == 1)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            argument,
            f"has labels {labels.dtype}{list(labels.shape)}, but row {row} is {short(labels[row])}"
            ", which is not one-hot",
            f"{_PLAIN}; several classes per example and class probabilities are not supported",
        )
    warn(f"{argument}: one-hot labels are taken as {labels.shape[1]} classes")
    return numbers.argmax(1)


def _typed(argument: str, labels: np.ndarray) -> np.ndarray:
    """Return labels as integers, truth values or strings."""
    if labels.dtype.kind in "iub":
        return labels
    for row, value in enumerate(labels.tolist()):
        if is_missing(value):
            raise InputError(argument, f"has no label in row {row}", "remove or label such rows")
    if labels.dtype.kind in "SO":
        labels = _from_objects(argument, labels)
    if labels.dtype.kind == "f":
        if not np.equal(labels, np.round(labels)).all() or np.abs(labels).max() >= 2**53:
            wrong = labels[labels != np.round(labels)]
            problem = f"has labels {labels.dtype}, such as {few(wrong)}"
            raise InputError(argument, problem, f"{_PLAIN}; regression is not supported")
        return labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise InputError(argument, f"has labels {labels.dtype}{list(labels.shape)}", _PLAIN)
    return labels


def _from_objects(argument: str, labels: np.ndarray) -> np.ndarray:
    """Return an array of one type from objects or bytes."""
    values = labels.tolist()
    if all(isinstance(value, str | bytes) for value in values):
        try:
            return np.array([v.decode() if isinstance(v, bytes) else v for v in values], np.str_)
        except UnicodeDecodeError as error:
            raise InputError(
                argument, f"has labels that are not UTF-8 ({error})", _PLAIN
            ) from error
    if any(isinstance(value, str | bytes) for value in values):
        raise InputError(argument, f"has labels of several types: {few(values)}", _PLAIN)
    try:
        return np.array(values)
    except (TypeError, ValueError) as error:
        raise InputError(argument, f"has labels such as {few(values)} ({error})", _PLAIN) from error


def _by_name(
    labels: dict[str, np.ndarray], class_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Return the classes of labels that are names."""
    found = np.unique(np.concatenate(list(labels.values()))).tolist()
    in_order = sorted(found, key=int) if all(map(str.isdecimal, found)) else found
    names = [
        name.decode() if isinstance(name, bytes) else str(name)
        for name in (in_order if class_names is None else class_names)
    ]
    number = {name: i for i, name in enumerate(names)}
    loose = {_loose(name): i for i, name in enumerate(names)}
    classes = {}
    for argument, values in labels.items():
        distinct, inverse = np.unique(values, return_inverse=True)
        other = [name for name in distinct.tolist() if name not in number]
        unknown = [name for name in other if _loose(name) not in loose]
        if unknown or (other and len(loose) < len(names)):
            problem = f"has the label {short((unknown or other)[0])}, which is not a class name"
            raise InputError(argument, problem, f"give labels among {few(names)}")
        if other:
            warn(
                f"{argument}: some labels differ from their class names by outer spaces or Unicode "
                "form; they are taken as these classes",
                few(other),
            )
        codes = [number.get(n, loose.get(_loose(n), -1)) for n in distinct.tolist()]
        classes[argument] = np.array(codes, np.int64)[inverse]
    return classes, names


def _loose(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _numbered(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Return classes of integers that have no names."""
    for argument, values in labels.items():
        _check_not_negative(argument, values)
    distinct = np.unique(np.concatenate(list(labels.values())))
    total = sum(len(values) for values in labels.values())
    if 2 * len(distinct) >= int(distinct[-1]) + 1:
        return labels, [str(i) for i in range(int(distinct[-1]) + 1)]
    if 2 * len(distinct) > total:
        problem = f"has the label {distinct[-1]}, and {len(distinct)} labels for {total} examples"
        raise InputError("train", problem, "number the classes 0, 1, 2, ... or give `class_names`")
    warn(
        f"the labels are {len(distinct)} of the numbers from 0 to {distinct[-1]}; they are taken "
        f"as codes of {len(distinct)} classes; give `class_names` for all if they are indices"
    )
    codes = {name: np.searchsorted(distinct, values) for name, values in labels.items()}
    return codes, [str(i) for i in distinct.tolist()]


def _in_names(
    labels: dict[str, np.ndarray], class_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Return integers that index `class_names`, or that are themselves these names."""
    names = [str(name) for name in class_names]
    distinct = np.unique(np.concatenate([values.astype(np.int64) for values in labels.values()]))
    as_names = {str(value) for value in distinct.tolist()} <= set(names)
    are_indices = 0 <= distinct[0] <= distinct[-1] < len(names)
    if as_names and not are_indices:
        warn("the labels are numbers that `class_names` lists; they are taken as these names")
        return _by_name({k: v.astype(np.str_) for k, v in labels.items()}, names)
    if as_names and any(names[value] != str(value) for value in distinct.tolist()):
        warn(
            "the labels are taken as indices of `class_names`, although some classes have other "
            "labels' numbers as their names"
        )
    for argument, values in labels.items():
        _check_not_negative(argument, values)
    return labels, class_names


def _check_not_negative(argument: str, labels: np.ndarray) -> None:
    if (low := int(labels.min())) < 0:
        raise InputError(argument, f"has the label {low}", "number the classes from 0")
