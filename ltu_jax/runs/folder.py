"""The folder of a run: the names of its files, and its state while it is unfinished.

An unfinished run keeps its state in `RUN/running`. Each model is exported whole or not at all, and
a record says what it follows from and which files it has. A model whose files and record agree is
not made again. At the end the folder is deleted: no optimizer state, membership model or teacher
outlives the run. Several processes read the same folder, and only process 0 changes it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltu_jax import files, paths
from ltu_jax.errors import DamagedError, InputError
from ltu_jax.runs import lock
from ltu_jax.runs.spec import SAVE_EVERY
from ltu_jax.training import hosts, orbax_paths
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.training.loop import History
from ltu_jax.training.resume import Saver
from ltu_jax.types import TrainedModel, Variables

_log = logging.getLogger(__name__)


class _Entry:
    """The path of a file or folder in the folder of a run."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, folder: RunFolder, owner: type) -> Path:
        return folder.path / self.name


class RunFolder:
    """The folder of a run. Its attributes are the paths of all files that a run may hold.

    Args:
      path: the folder, which need not exist yet.
    """

    spec = _Entry("run.json")
    request = _Entry("request.json")
    split = _Entry("split.npz")
    history = _Entry("history.npz")
    continued = _Entry("continued.json")

    original = _Entry("original")
    unlearned = _Entry("unlearned")

    metrics = _Entry("metrics.jsonl")
    tensorboard = _Entry("tensorboard")
    tuning = _Entry("tuning.json")
    scores = _Entry("scores.npz")
    report = _Entry("report.json")
    page = _Entry("report.html")
    figures = _Entry("figures")
    audit = _Entry("audit.json")

    ledger = _Entry("ledger.jsonl")
    salts = _Entry("ledger.salts.json")
    statements = _Entry("statements")
    queue = _Entry("queue.sqlite")

    running = _Entry("running")
    records = _Entry("running/finished.json")

    def __init__(self, path: str | os.PathLike):
        self.path = paths.local("run", path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def model(self, name: str) -> Path:
        """Return the path of `original`, `retrain`, `retrain_2` or `unlearned`."""
        return self.path / name

    def is_unfinished(self) -> bool:
        """Whether the run was started and has not ended."""
        return self.records.exists()

    def is_unused(self) -> bool:
        """Whether the folder is empty, except for what a run leaves that never started."""
        if not self.path.is_dir():
            return True
        before = {self.running, self.request, self.split, self.history}
        hidden = (files.PART, lock.LOCK, lock.OWNER)
        found = {path for path in self.path.iterdir() if not path.name.startswith(hidden)}
        return found <= before

    def unwritten(self) -> list[Path]:
        """Return what a killed process left of files that it was writing."""
        folders = (self.path, self.running, self.figures)
        return [path for folder in folders for path in folder.glob(f"{files.PART}*")]


def check_folder(out: str | os.PathLike | None) -> None:
    """Raise `InputError` unless a run can be written to `out`; leave nothing behind."""
    check_writable("out", "runs" if out is None else out)
    if out is not None:
        _check_unused(RunFolder(out))
        lock.check_free(RunFolder(out).path, "out", "name a new folder")


def _check_unused(folder: RunFolder) -> None:
    if not folder.is_unused():
        raise InputError("out", f"{folder} holds another run or other files", "name a new folder")


def check_writable(argument: str, folder: str | os.PathLike) -> None:
    """Raise `InputError` unless files can be written below `folder`; leave nothing behind."""
    parent = folder = paths.local(argument, folder)
    if jax.process_count() > 1 and not orbax_paths.is_plain(folder):
        problem = f"is {folder}, which Orbax cannot use from several processes"
        raise InputError(argument, problem, "give a path without * ? [ and backslashes")
    try:
        while not parent.exists():
            if parent.is_symlink():
                problem = f"is {folder}, but {parent} is a link to nothing"
                raise InputError(argument, problem, "name another folder")
            parent = parent.parent
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            argument,
            f"is {folder}, but {parent} cannot be written to ({error.strerror})",
            "name another folder",
        ) from error


def make_folder(out: str | os.PathLike | None, name: str) -> RunFolder:
    """Create the folder of a run; without `out` the first free `runs/NAME-001`, `-002`, ..."""
    if out is not None:
        folder = paths.local("out", out)
        folder.mkdir(parents=True, exist_ok=True)
        return RunFolder(folder)
    name = re.sub(r"[^\w.-]+", "-", name)[:60]  # no path separators, no overlong names
    for number in range(1, 10_000):
        folder = Path("runs") / f"{name}-{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return RunFolder(folder)
    raise InputError("out", f"is not given, and runs/ holds 9,999 runs of {name}", "name a folder")


@contextmanager
def new_run(out: str | os.PathLike | None, name: str) -> Iterator[RunFolder]:
    """Provide the folder of a new run, see `make_folder`, which no other process may use.

    Raises:
      InputError: another process took the folder since `check_folder`.
    """
    folder = make_folder(out, name)
    with lock.claim(folder.path, "out", "name a new folder"):
        _check_unused(folder)
        yield folder


class RunState:
    """The state of an unfinished run.

    All processes make one together.

    Args:
      folder: the folder of the run.
      every: steps between two checkpoints.
    """

    def __init__(self, folder: RunFolder, every: int = SAVE_EVERY):
        self.folder, self.every = RunFolder(hosts.common(folder.path)), every

    def begin(self) -> None:
        """Mark the run as unfinished."""
        if hosts.is_main():
            self.folder.running.mkdir(exist_ok=True)
            files.write_checksummed(self.folder.records, {})
        hosts.meet("begin")

    def end(self) -> None:
        """Mark the run as finished and delete its state."""
        hosts.meet("end")
        if hosts.is_main():
            self.folder.records.unlink()
            shutil.rmtree(self.folder.running)

    def reopen(self) -> None:
        """Delete files that were being written when the run was stopped, and damaged records."""
        if hosts.is_main():
            for part in self.folder.unwritten():
                files.remove(part) if part.is_dir() else part.unlink()
            try:
                self.records()
            except DamagedError as error:
                _log.warning("all phases of %s are repeated: %s", self.folder, error)
                files.write_checksummed(self.folder.records, {})
        hosts.meet("reopen")

    def saver(self, name: str, source: str) -> Saver:
        """Return the saver of a phase, see `training.resume`."""
        return Saver(self.folder.running / name, f"{name} {source}", self.every)

    def finished(
        self, name: str, source: str, like: Variables
    ) -> tuple[TrainedModel, History] | None:
        """Return an exported model and its history; None if it is missing or damaged.

        Args:
          name: name of the model.
          source: digest of what the model follows from.
          like: shapes of its variables.
        """
        if not hosts.agree(hosts.is_main() and self._is_good(name, source)):
            return None
        record = self.records()[name]
        variables = restore(self.folder.model(name), like, argument="run")
        history = {key: np.array(values) for key, values in record["history"].items()}
        return TrainedModel(variables, record["seconds"], record["compile_seconds"]), history

    def _is_good(self, name: str, source: str) -> bool:
        """Whether the model is there, as recorded; delete it if it is another one."""
        path = self.folder.model(name)
        if not path.exists():
            return False
        try:
            record = self.records().get(name)
            if record is None or record["follows_from"] != source:
                raise DamagedError("belongs to another run or to other settings")
            files.check_files(path, record["files"])
        except DamagedError as error:
            _log.warning("model %s is made again: %s", path, error)
            shutil.rmtree(path)
            return False
        return True

    def finish(
        self, name: str, source: str, model: TrainedModel, history: History | None = None
    ) -> None:
        """Export a model, and delete the checkpoints that led to it.

        Raises:
          OSError: the disk refused it; nothing is left of the model then.
        """
        part = self.folder.running / f"{files.PART}{name}"
        if hosts.is_main():
            files.remove(part)
        hosts.meet(f"export {name}")
        try:
            export(part, model.variables)
            if hosts.is_main():
                record = {
                    "follows_from": source,
                    "seconds": model.seconds,
                    "compile_seconds": model.compile_seconds,
                    "history": {key: values.tolist() for key, values in (history or {}).items()},
                    "files": files.file_digests(part),
                }
                self.note(name, record)
                files.publish(part, self.folder.model(name))
                files.remove(self.folder.running / name)
        finally:
            if hosts.is_main():
                files.remove(part)
        hosts.meet(f"exported {name}")

    def records(self) -> dict[str, Any]:
        """Return the records of finished phases, by name.

        Raises:
          DamagedError: the file of records is not what was written.
        """
        return files.read_checksummed(self.folder.records) if self.folder.records.exists() else {}

    def note(self, name: str, record: Mapping[str, Any]) -> None:
        """Add the record of a finished phase."""
        if hosts.is_main():
            self.folder.running.mkdir(exist_ok=True)
            files.write_checksummed(self.folder.records, {**self.records(), name: record})


def variables_digest(variables: Variables) -> str:
    """Return the SHA-256 of the arrays of a model."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return files.array_digest(
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    )
