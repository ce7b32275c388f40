"""What a model has forgotten before, and what that leaves of its data set.

A later request is a deletion from the training set that is left. Whatever is drawn from it (retain
and accessible set, query sets, the attacks' members, what Retrain is trained on) can thus hold
nothing that was forgotten earlier. The held-out set stays divided as it was: what a method was once
shown never becomes test data.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.data.arrays import take_train
from ltu_jax.data.request import Request
from ltu_jax.errors import InputError, few
from ltu_jax.types import Dataset, Examples, Split


class Past(NamedTuple):
    """Index sets into the training set as it was before anything was forgotten.

    Attributes:
      forgotten: sorted, what was forgotten by earlier requests.
      accessible: sorted, the share that the method may go on seeing; empty draws a new one.
    """

    forgotten: np.ndarray
    accessible: np.ndarray


def after(past: Past | None, split: Split, total: int, *, redraw: bool = False) -> Past:
    """Return the past of the request that comes after one.

    Args:
      past: that of the request itself; None if it is the first.
      split: of the request, into the training set that it was made to.
      total: examples in the training set before anything was forgotten.
      redraw: the accessible share is to be drawn anew.
    """
    rows = remaining_rows(past, total)
    before = np.empty(0, np.int64) if past is None else past.forgotten
    accessible = split.accessible[:0] if redraw else split.accessible
    return Past(np.union1d(before, rows[split.forget]), rows[accessible])


def remaining_rows(past: Past | None, total: int) -> np.ndarray:
    """Return the sorted rows of a training set of `total` examples that are not forgotten yet.

    Raises:
      InputError: the data set is smaller than it was.
    """
    rows = np.arange(total)
    if past is None:
        return rows
    if past.forgotten.max() >= total:
        raise InputError(
            f"--data: has {total} training examples, fewer than when row {past.forgotten.max()} "
            "was forgotten; give the data set that the model was trained on"
        )
    return np.setdiff1d(rows, past.forgotten)


def cut(
    dataset: Dataset, request: Request, past: Past | None, *, retain_fraction: float, seed: int
) -> tuple[Dataset, Split, Examples | None]:
    """Return the data set that is left, how the request divides it, and what was forgotten before.

    Args:
      dataset: before anything was forgotten.
      request: whom to forget.
      past: None if nothing was forgotten yet.
      retain_fraction: of what remains, the share to draw for the method where `past` names none.
      seed: of the draws.

    Returns:
      The data set without its earlier forgotten examples, the split of it, and those examples
      (None if there are none).

    Raises:
      InputError: the request is bad, asks for what is forgotten already, or leaves nothing that
        the method may see.
    """
    if past is None:
        forget = requests.resolve(request, dataset)
        split = requests.split(dataset, forget, retain_fraction=retain_fraction, seed=seed)
        return dataset, split, None
    rows = remaining_rows(past, len(dataset.train.labels))
    check_not_forgotten(request, dataset.train_ids[past.forgotten])
    left = take_train(dataset, rows)
    forget = requests.resolve(request, left)
    gone = np.union1d(past.forgotten, rows[forget])
    # Of the whole data set, so that validation and test are those of the first request.
    whole = requests.split(dataset, gone, retain_fraction=retain_fraction, seed=seed)
    accessible = np.setdiff1d(past.accessible, gone) if len(past.accessible) else whole.accessible
    if not len(accessible):
        raise request.error(
            "is all that the method may still see; give another --retain-fraction to draw anew"
        )
    split = whole._replace(
        forget=forget,
        retain=np.searchsorted(rows, whole.retain),
        accessible=np.searchsorted(rows, accessible),
    )
    return left, split, take_train(dataset, past.forgotten).train


def check_not_forgotten(request: Request, forgotten: np.ndarray) -> None:
    """Raise `InputError` if ids are requested that are among the `forgotten` ids."""
    gone = set(np.asarray(forgotten).tolist())
    again = [name for name in request.value if name in gone] if request.kind == "ids" else []
    if again:
        raise request.error(
            f"{len(again)} of {len(request.value)} ids were forgotten by an earlier request: "
            f"{few(again)}; leave them out"
        )


def save(path: Path, past: Past) -> None:
    """Write the history; like the split, it says which examples were forgotten."""
    with open(path, "wb") as file:
        np.savez(file, **past._asdict())


def load(path: Path) -> Past | None:
    """Return what `save` wrote, or None if there is no such file.

    Raises:
      InputError: the file holds something else.
    """
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Past(*(arrays[name] for name in Past._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            "run", f"{path} is damaged ({type(error).__name__})", "restore it from a copy"
        ) from error
