"""Earlier runs of a sequence: which of them removed an example, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ltu_jax.data.history as histories
import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax.data.history import ForgottenError
from ltu_jax.data.request import load_split
from ltu_jax.errors import InputError
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_spec


@contextmanager
def dated(run: RunFolder, total: int) -> Iterator[None]:
    """Add date and run to a `ForgottenError` of the block.

    Args:
      run: the run that the block continues.
      total: number of training examples before any deletion.
    """
    try:
        yield
    except ForgottenError as error:
        found = [
            f"{_date(one)}in {one}"
            for one in chain(run)
            if np.isin(error.rows, _removed_by(one, total)).any()
        ]
        if not found:
            raise
        problem = f"{error.problem} ({', '.join(found)})"
        raise InputError(error.argument, problem, error.remedy) from error


def chain(run: RunFolder) -> Iterator[RunFolder]:
    """Yield a run and the runs that it continues, as far as their folders are where they were."""
    while run.spec.exists():
        yield run
        checkpoint = load_spec(run).checkpoint
        if checkpoint is None or not run.history.exists():
            return
        run = RunFolder(Path(checkpoint).parent)


def _removed_by(run: RunFolder, total: int) -> np.ndarray:
    """Return the rows that a run removed, in the training set before any deletion."""
    history = histories.load_history(run.history)
    return histories.remaining_rows(history, total)[load_split(run.split).forget]


def _date(run: RunFolder) -> str:
    return f"on {ledger.read(run)[-1]['time'][:10]} " if run.ledger.exists() else ""
