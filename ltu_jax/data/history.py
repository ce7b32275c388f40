"""Earlier deletions of a model, and the training set that remains after them.

A later request is a deletion from the remaining training set. So whatever is drawn from it (retain
and accessible set, query sets, attack members, Retrain's data) holds no earlier forgotten example.
The held-out set keeps its division: an example that a method could see never becomes test data.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.data.arrays import take_train
from ltu_jax.data.classes import class_indices
from ltu_jax.data.request import Request
from ltu_jax.errors import InputError, few
from ltu_jax.files import read_arrays, write_arrays
from ltu_jax.types import Dataset, Examples, Split


class DeletionHistory(NamedTuple):
    """Index sets into the training set before any deletion.

    Attributes:
      forgotten: sorted; the examples of earlier requests.
      accessible: sorted; the share that the method keeps seeing. Empty: draw a new one.
    """

    forgotten: np.ndarray
    accessible: np.ndarray


def extend(
    history: DeletionHistory | None, split: Split, total: int, *, redraw: bool = False
) -> DeletionHistory:
    """Return the history after a request.

    Args:
      history: before the request; None for the first.
      split: of the request, into the training set that remained before it.
      total: number of training examples before any deletion.
      redraw: draw a new accessible share for the next request.
    """
    rows = remaining_rows(history, total)
    before = np.empty(0, np.int64) if history is None else history.forgotten
    accessible = split.accessible[:0] if redraw else split.accessible
    return DeletionHistory(np.union1d(before, rows[split.forget]), rows[accessible])


def remaining_rows(history: DeletionHistory | None, total: int) -> np.ndarray:
    """Return the sorted rows of a training set of `total` examples that are not forgotten.

    Raises:
      InputError: the data set is smaller than before.
    """
    rows = np.arange(total)
    if history is None:
        return rows
    if history.forgotten.max() >= total:
        raise InputError(
            "data",
            f"has {total} training examples, but row {history.forgotten.max()} was forgotten",
            "give the data set that the model was trained on",
        )
    return np.setdiff1d(rows, history.forgotten)


def split_remaining(
    dataset: Dataset,
    request: Request,
    history: DeletionHistory | None,
    *,
    retain_fraction: float,
    seed: int,
) -> tuple[Dataset, Split, Examples | None]:
    """Return the remaining data set, its split by a request, and the examples forgotten before.

    Args:
      dataset: before any deletion.
      request: what to forget.
      history: None if nothing was forgotten yet.
      retain_fraction: share of retain to draw as accessible if `history` has none.
      seed: of the draws.

    Returns:
      The data set without earlier forgotten examples, its split, and those examples (None if there
      are none).

    Raises:
      InputError: the request is bad, names forgotten examples, or leaves nothing accessible.
    """
    if history is None:
        forget = requests.resolve(request, dataset)
        split = requests.split(dataset, forget, retain_fraction=retain_fraction, seed=seed)
        return dataset, split, None
    rows = remaining_rows(history, len(dataset.train.labels))
    remaining = take_train(dataset, rows)
    check_not_forgotten(request, dataset, remaining, history.forgotten)
    forget = requests.resolve(request, remaining)
    forgotten = np.union1d(history.forgotten, rows[forget])
    # Drawn from the whole data set, so that validation and test are those of the first request.
    whole = requests.split(dataset, forgotten, retain_fraction=retain_fraction, seed=seed)
    kept = np.setdiff1d(history.accessible, forgotten)
    accessible = kept if len(history.accessible) else whole.accessible
    if not len(accessible):
        raise request.error(
            "selects all accessible examples", "give another `retain_fraction` to draw new ones"
        )
    split = whole._replace(
        forget=forget,
        retain=np.searchsorted(rows, whole.retain),
        accessible=np.searchsorted(rows, accessible),
    )
    return remaining, split, take_train(dataset, history.forgotten).train


class ForgottenError(InputError):
    """A request names examples that an earlier request removed.

    Attributes:
      request: the request.
      rows: their rows in the data set before any deletion.
    """

    def __init__(self, request: Request, rows: np.ndarray, problem: str):
        self.request, self.rows = request, rows
        error = request.error(problem, "leave them out")
        super().__init__(error.argument, error.problem, error.remedy)


def check_not_forgotten(
    request: Request, dataset: Dataset, remaining: Dataset, forgotten: np.ndarray
) -> None:
    """Raise `ForgottenError` if a requested id, value or class has only forgotten examples.

    Args:
      request: the next request.
      dataset: before any deletion.
      remaining: without the forgotten examples.
      forgotten: their rows in `dataset`.
    """
    if request.type == "fraction":
        return
    gone = take_train(dataset, forgotten)
    if request.type == "class":
        classes = class_indices(request.value, dataset.class_names, request.error)
        absent = np.setdiff1d(classes, remaining.train.labels)
        rows = forgotten[np.isin(gone.train.labels, absent)]
        count, what = len(np.intersect1d(gone.train.labels, absent)), "classes"
    else:
        absent = requests.matched(request, remaining).unknown
        found = requests.matched(replace(request, value=tuple(absent)), gone)
        count, rows = len(absent) - len(found.unknown), forgotten[found.rows]
        what = "ids" if request.type == "ids" else "values"
    if len(rows):
        were = f"{count} of {len(request.value)} {what} were forgotten by an earlier request"
        shown = "" if request.type == "class" else f": {few(absent)}"
        raise ForgottenError(request, rows, were + shown)


def save_history(path: Path, history: DeletionHistory) -> None:
    """Write the history; like the split, it reveals which examples were forgotten."""
    write_arrays(path, history._asdict(), mode=0o600)


def load_history(path: Path) -> DeletionHistory | None:
    """Return what `save_history` wrote, or None if there is no such file.

    Raises:
      InputError: the file is damaged.
    """
    if not path.exists():
        return None
    return DeletionHistory(*read_arrays(path, DeletionHistory._fields, "run"))
