"""One run on many hosts: the processes find each other, and one of them writes the results.

Every process is started with the same command and reads the same data. The state is on every
device of every host; each device takes its share of every batch, and gradients are averaged over
all of them (see `training.parallel`). Since each process thus has all results, process 0 writes
them, and the others write theirs to a scratch folder of their own, which is deleted at the end.
Checkpoints alone are written by all of them together, as Orbax asks for: the run's folder must be
on a file system that all hosts see. Whether one is good, and when to stop, one process says and all
follow, for they have to take every step together.
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
    """Join the run's other processes; to be called before anything is computed.

    Args:
      coordinator: `HOST:PORT` of process 0, as all hosts reach it. None finds all three from the
        cluster: a TPU pod, SLURM, Kubernetes (indexed jobs) or Open MPI.
      num_processes: how many take part.
      process_id: of this one, from 0.

    Raises:
      InputError: the three do not fit together, or there is no such cluster.

    Example:
      >>> from ltu_jax.training import hosts
      >>> hosts.join("10.0.0.1:1234", num_processes=2, process_id=0)  # doctest: +SKIP
    """
    check(coordinator, num_processes, process_id)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--distributed: the processes did not find each other ({error}); outside of TPU "
            "pods, SLURM and Kubernetes give --coordinator, --num-processes and --process-id"
        ) from error


def check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Raise `InputError` unless all of the three are given, and fit, or none of them."""
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None):
        return
    if None in given:
        raise InputError(
            "--coordinator, --num-processes and --process-id: give all three, or --distributed "
            "alone where the cluster knows them"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--coordinator {coordinator}: write it as HOST:PORT")
    if num_processes < 1:
        raise InputError(f"--num-processes {num_processes}: give 1 or more")
    if not 0 <= process_id < num_processes:
        raise InputError(f"--process-id {process_id}: give 0 to {num_processes - 1}")


def is_main() -> bool:
    """Whether this is the process that shows and writes the results."""
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
    """Return what process 0 says; all processes have to call this together."""
    return value if jax.process_count() == 1 else int(multihost_utils.broadcast_one_to_all(value))


def in_any(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them have to call this together."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def meet(where: str) -> None:
    """Wait for all processes, which name the same place; so files of one are there for all."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def common(folder: Path) -> Path:
    """Return what process 0 calls `folder`, on all processes; they have to call this together."""
    if jax.process_count() == 1:
        return folder
    encoded = os.fsencode(folder.absolute())
    padded = np.frombuffer(encoded.ljust(_LONGEST_PATH, b"\0"), np.uint8)
    told = multihost_utils.broadcast_one_to_all(padded)
    return Path(os.fsdecode(bytes(told).rstrip(b"\0")))
