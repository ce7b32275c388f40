"""The arrays of a file of outputs: their names, the rows of every part, labels, and names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ltu_jax.audit.outputs.kinds import blocks
from ltu_jax.errors import InputError, few, short, warn
from ltu_jax.types import Split

PARTS = ("forget", "retain", "retain_unseen", "validation", "test")
UNTRAINED = "untrained"
ENSEMBLES = (
    "original",
    "unlearned",
    "retrain",
    "shadow",
    "shadow_unlearned",
    "shadow_retrain",
)
_ENSEMBLE_PARTS = ("", "_noisy", "_rows", "_included")
_MODEL = re.compile(r"original|unlearned|untrained|retrain(_([2-9]|[1-9]\d+))?")
NAMES = (
    "labels",
    "part",
    *PARTS,
    "original",
    "unlearned",
    "retrain",
    "retrain_2",
    UNTRAINED,
    "reference",
    "reference_rows",
    "reference_included",
    "pairs",
    "id",
    "about",
    *(f"ensemble_{name}{part}" for name in ENSEMBLES for part in _ENSEMBLE_PARTS),
)


def check_names(arrays: Mapping[str, Any]) -> list[str]:
    """Return the models whose outputs are given, in the order of the report.

    Raises:
      InputError: an array has an unknown name, or `original` or `unlearned` is missing.
    """
    for name in arrays:
        if name in NAMES or _MODEL.fullmatch(name):
            continue
        near = get_close_matches(name, NAMES, n=1)
        remedy = f"did you mean {near[0]!r}" if near else "see the page on auditing any model"
        raise InputError("outputs", f"has an array of the unknown name {short(name)}", remedy)
    for name in ("original", "unlearned"):
        if name not in arrays:
            found = f"lacks the array {name!r}; it has {few(arrays)}"
            raise InputError("outputs", found, f"add the outputs of the {name} model")
    retrained = sorted(
        (name for name in arrays if name.startswith("retrain_") and _MODEL.fullmatch(name)),
        key=lambda name: int(name.removeprefix("retrain_")),
    )
    if retrained and "retrain" not in arrays:
        raise InputError("outputs", f"has {retrained[0]!r} but no 'retrain'", "name it 'retrain'")
    first = [name for name in ("retrain",) if name in arrays]
    return ["original", *first, *retrained, "unlearned"]


def check_shapes(arrays: Mapping[str, np.ndarray], models: Sequence[str]) -> tuple[int, ...]:
    """Return the shape of all outputs.

    Raises:
      InputError: they have several shapes, no rows, or not one or two axes.
    """
    shape = arrays["original"].shape
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError("outputs", f"original has shape {shape}", "give [N, C] or [N]")
    for name in models:
        other = arrays[name].shape
        if other != shape:
            rows = other[:1] != shape[:1]
            problem = f"{name} has shape {other}, original {shape}"
            remedy = f"give the same {'rows' if rows else 'classes'} for every model"
            raise InputError("outputs", problem, remedy)
    return shape


def read_labels(labels: np.ndarray | None, shape: tuple[int, ...], scores: bool) -> np.ndarray:
    """Return the labels, int32 `[N]`; zeros for scores of the true class, which need none.

    Raises:
      InputError: they are missing, not integers, or not classes of the outputs.
    """
    if labels is None and scores:
        return np.zeros(shape[0], np.int32)
    if labels is None:
        raise InputError("outputs", "lacks the array 'labels'", "add the true class of every row")
    if labels.shape != shape[:1]:
        found = f"labels has shape {labels.shape}, the models have {shape[0]} rows"
        raise InputError("outputs", found, "give a label for each row")
    classes = None if scores else 2 if len(shape) == 1 or shape[1] == 1 else shape[1]
    whole = np.empty(len(labels), np.int32)
    for first, block in blocks(labels):
        if block.dtype.kind not in "iuf":
            remedy = "give the index of each class"
            raise InputError("outputs", f"labels is of type {block.dtype}", remedy)
        wrong = np.flatnonzero(~(np.isfinite(block) & (np.floor(block) == block)))
        if len(wrong):
            found = f"labels has {block[wrong[0]]} in row {first + wrong[0]}"
            raise InputError("outputs", found, "give whole numbers")
        low, high = block.min(), block.max()
        if low < 0 or (classes is not None and high >= classes) or high >= 2**31:
            end = "" if classes is None else f" to {classes - 1}"
            found = f"labels ranges from {low:g} to {high:g}"
            raise InputError("outputs", found, f"give classes from 0{end}")
        whole[first : first + len(block)] = block
    return np.zeros_like(whole) if scores else whole


def read_split(arrays: Mapping[str, np.ndarray], size: int) -> Split:
    """Return which rows are forget, retain, accessible, validation and test examples.

    Raises:
      InputError: the parts are missing, unknown, overlap, or are too small.
    """
    given = [name for name in PARTS if name in arrays]
    if "part" in arrays and given:
        found = f"has both 'part' and {given[0]!r}"
        raise InputError("outputs", found, "give one of the two forms")
    codes = _codes(arrays["part"], size) if "part" in arrays else _from_rows(arrays, given, size)
    _check_ids(arrays.get("id"), codes)
    counts = np.bincount(codes, minlength=len(PARTS) + 1)
    retain = counts[1] + counts[2]
    for name, count, least in (
        ("forget", counts[0], 1),
        ("retain or retain_unseen", retain, 2),
        ("test", counts[4], 2),
    ):
        if count < least:
            found = f"has {count} rows of the part {name}"
            raise InputError("outputs", found, f"give {least} or more")
    if counts[0] == 1:
        warn("the forget set has one example: its AUCs have no interval")
    if counts[len(PARTS)]:
        warn(f"{counts[len(PARTS)]:,} rows are in no part and are not used")
    forget, seen, unseen, validation, test = (np.flatnonzero(codes == i) for i in range(5))
    return Split(forget, np.sort(np.concatenate([seen, unseen])), seen, validation, test)


def _codes(part: np.ndarray, size: int) -> np.ndarray:
    """Return the index in `PARTS` of every row."""
    if part.shape != (size,):
        found = f"part has shape {part.shape}, the models have {size} rows"
        raise InputError("outputs", found, "give a part for each row")
    codes = np.empty(size, np.uint8)
    for first, block in blocks(part):
        if block.dtype.kind not in "SU":
            found, remedy = f"part is of type {block.dtype}", f"give text: {', '.join(PARTS)}"
            raise InputError("outputs", found, remedy)
        names, index = np.unique(block, return_inverse=True)
        known = []
        for name in _text(names):
            if name not in PARTS:
                near = get_close_matches(str(name), PARTS, n=1) or PARTS
                found = f"part has the unknown value {short(str(name))}"
                raise InputError("outputs", found, f"write {' or '.join(map(repr, near))}")
            known.append(PARTS.index(name))
        codes[first : first + len(block)] = np.array(known, np.uint8)[index]
    return codes


def _text(names: np.ndarray) -> np.ndarray:
    return np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names


def _from_rows(arrays: Mapping[str, np.ndarray], given: Sequence[str], size: int) -> np.ndarray:
    if not given:
        remedy = f"add 'part', text for each row: {', '.join(PARTS)}"
        raise InputError("outputs", "does not say which rows are forget and test", remedy)
    codes = np.full(size, len(PARTS), np.uint8)
    for name in given:
        rows = as_rows(name, arrays[name], size)
        taken = codes[rows]
        if (taken < len(PARTS)).any():
            other = PARTS[int(taken[taken < len(PARTS)][0])]
            count = int(np.sum(taken < len(PARTS)))
            found = f"{count} rows are in both {other!r} and {name!r}"
            raise InputError("outputs", found, "put every row in one part")
        codes[rows] = PARTS.index(name)
    return codes


def as_rows(name: str, rows: np.ndarray, size: int) -> np.ndarray:
    """Return row numbers, given as such or as booleans for all rows.

    Raises:
      InputError: they are neither, repeat, or are out of range.
    """
    if rows.dtype == bool and rows.shape == (size,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        found = f"{name} is {rows.dtype} of shape {rows.shape}"
        raise InputError("outputs", found, "give row numbers, or true and false for each row")
    if len(rows) and (rows.min() < 0 or rows.max() >= size):
        found = f"{name} has rows from {rows.min()} to {rows.max()}"
        raise InputError("outputs", found, f"give rows from 0 to {size - 1}")
    if len(np.unique(rows)) < len(rows):
        raise InputError("outputs", f"{name} names a row twice", "name each once")
    return np.asarray(rows, np.int64)


def _check_ids(ids: np.ndarray | None, codes: np.ndarray) -> None:
    """Refuse ids of the forget set that are held out as well."""
    if ids is None:
        return
    if ids.shape != codes.shape:
        found = f"id has shape {ids.shape}, the models have {len(codes)} rows"
        raise InputError("outputs", found, "give an id for each row")
    both = np.intersect1d(ids[codes == 0], ids[(codes == 3) | (codes == 4)])
    if len(both):
        found = f"{len(both)} ids are in the forget set and held out as well"
        raise InputError("outputs", found, "hold out examples that no model was trained on")


def read_about(about: Any) -> dict[str, Any]:
    """Return the names that the report shows: a mapping, or JSON text of one.

    Raises:
      InputError: it is neither, or has an unknown key or a value of another type.
    """
    if about is None:
        return {}
    if not isinstance(about, Mapping):
        try:
            about = json.loads(str(np.asarray(about)))
        except ValueError as error:
            problem = f"about is not JSON ({error})"
            raise InputError("outputs", problem, "write it by json.dumps") from error
    types = {
        "data": str,
        "model": str,
        "method": str,
        "seed": int,
        "shares": str,
        "class_names": list,
        "seconds": dict,
    }
    for key, value in about.items() if isinstance(about, Mapping) else [("", about)]:
        if key not in types or not isinstance(value, types[key]):
            problem = f"about has {short(key)}: {short(value)}"
            remedy = f"give {', '.join(f'{name} ({one.__name__})' for name, one in types.items())}"
            raise InputError("outputs", problem, remedy)
    for name, value in about.get("seconds", {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            problem = f"about has {short(value)} seconds for {short(name)}"
            raise InputError("outputs", problem, "give the time to make each model, in seconds")
    return dict(about)


def check_class_names(about: Mapping[str, Any], classes: int) -> None:
    """Raise `InputError` unless the class names are as many as the classes."""
    names = about.get("class_names")
    if names and (len(names) != classes or not all(isinstance(name, str) for name in names)):
        found = f"about has the class names {few(names)}"
        raise InputError("outputs", found, f"give {classes} names")
