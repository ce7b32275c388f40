"""Runs on several hosts: joining processes, and agreement between them.

Every process starts with the same command and reads the same data. Every device holds the state and
takes its share of each batch; gradients are averaged over all devices (see `training.devices`). So
each process has all results. Process 0 writes them; the others write to scratch folders that are
deleted at the end. All processes write checkpoints together, as Orbax requires, so the run's folder
must be on a shared file system. Process 0 decides which checkpoint is used and when to stop, since
all processes must take every step together.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from ltu_jax.errors import InputError

_LONGEST_PATH = 4096


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes of a run, before any computation.

    Args:
      coordinator: `HOST:PORT` of process 0. None reads all three arguments from the cluster: a TPU
        pod, SLURM, Kubernetes (indexed jobs) or Open MPI.
      num_processes: total number of processes.
      process_id: of this process, from 0.

    Raises:
      InputError: the arguments do not fit together, or the processes did not connect.

    Example:
      >>> from ltu_jax.training import hosts
      >>> hosts.join("10.0.0.1:1234", num_processes=2, process_id=0)  # doctest: +SKIP
    """
    check(coordinator, num_processes, process_id)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "distributed",
            f"the processes did not connect ({error})",
            "outside of TPU pods, SLURM and Kubernetes give `coordinator`, `num_processes` and "
            "`process_id`",
        ) from error


def check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Raise `InputError` unless all three arguments are valid, or all are None."""
    if coordinator is None and num_processes is None and process_id is None:
        return
    if coordinator is None or num_processes is None or process_id is None:
        raise InputError(
            "coordinator",
            "was given without `num_processes` and `process_id`, or one of them without it",
            "give all three, or only `distributed` if the cluster provides them",
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError("coordinator", f"is {coordinator}", "write it as HOST:PORT")
    if num_processes < 1:
        raise InputError("num_processes", f"is {num_processes}", "give 1 or more")
    if not 0 <= process_id < num_processes:
        raise InputError("process_id", f"is {process_id}", f"give 0 to {num_processes - 1}")


def is_main() -> bool:
    """Return whether this process shows and writes the results."""
    return jax.process_index() == 0


@contextmanager
def results_folder(out: Path | None) -> Iterator[Path | None]:
    """Provide the folder of a run: `out` for process 0, a scratch folder for all others."""
    if is_main():
        yield out
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def agree(value: int) -> int:
    """Return the value of process 0; all processes must call this together."""
    return value if jax.process_count() == 1 else int(multihost_utils.broadcast_one_to_all(value))


def in_any(flag: bool) -> bool:
    """Return whether the flag is set in any process; all must call this together."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def meet(where: str) -> None:
    """Wait for all processes at a named point; files of one are then visible to all."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def common(folder: Path) -> Path:
    """Return the `folder` of process 0; all processes must call this together."""
    if jax.process_count() == 1:
        return folder
    encoded = os.fsencode(folder.absolute())
    padded = np.frombuffer(encoded.ljust(_LONGEST_PATH, b"\0"), np.uint8)
    received = multihost_utils.broadcast_one_to_all(padded)
    return Path(os.fsdecode(bytes(received).rstrip(b"\0")))
