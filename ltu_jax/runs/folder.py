"""What a run keeps while it is under way, in `RUN/running`: all that it takes to go on with it.

Each network is exported whole or not at all, and a record says what it follows from, how it came
about and what its files are. A phase whose network and record agree is not done again. At the end
the folder is deleted: no optimizer state, membership model or teacher outlives the run. Several
processes read the same folder, and process 0 alone changes it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltu_jax.models.fingerprint import fingerprint
from ltu_jax.runs.networks import training_digest
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan, trace
from ltu_jax import files
from ltu_jax.errors import DamagedError
from ltu_jax.training import hosts
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.training.loop import History
from ltu_jax.training.resume import Saver
from ltu_jax.types import Variables

SAVE_EVERY = 200  # steps; a checkpoint of a small network takes a tenth of a second
# What a process that is killed while it writes a file leaves beside it.
PARTS = [f"{part}{files.PART}*" for part in ("", "running/", "figures/")]

_log = logging.getLogger(__name__)


class Running:
    """The state of a run that is under way.

    Args:
      run: the run's folder.
      every: steps between two checkpoints.
    """

    def __init__(self, run: Path, every: int = SAVE_EVERY):
        self.run = hosts.common(run)
        self.folder, self.every = self.run / "running", every
        self._record = self.folder / "finished.json"

    def begin(self) -> None:
        """Mark the run as under way."""
        if hosts.is_main():
            self.folder.mkdir(exist_ok=True)
            files.write_checksummed(self._record, {})
        hosts.meet("begin")

    def under_way(self) -> bool:
        """Whether the run was begun and has not ended."""
        return self._record.exists()

    def end(self) -> None:
        """Mark the run as finished, which one deletion does, and delete what it kept."""
        hosts.meet("end")
        if hosts.is_main():
            self._record.unlink()
            shutil.rmtree(self.folder)

    def reopen(self) -> None:
        """Delete what was being written when the run was stopped; records must be whole."""
        if hosts.is_main():
            self._clean()
        hosts.meet("reopen")

    def _clean(self) -> None:
        for part in [path for pattern in PARTS for path in self.run.glob(pattern)]:
            files.remove(part) if part.is_dir() else part.unlink()
        try:
            self.records()
        except DamagedError as error:
            _log.warning("all phases of %s are done again: %s", self.run, error)
            files.write_checksummed(self._record, {})

    def saver(self, name: str, follows_from: str) -> Saver:
        """Return the saver of a phase, see `training.resume`."""
        return Saver(self.folder / name, f"{name} {follows_from}", self.every)

    def finished(self, plan: Plan, name: str, follows_from: str) -> tuple[TrainedModel, History] | None:
        """Return an exported network and its history; one that is damaged is named and deleted."""
        folder = self.run / name
        if not hosts.agree(hosts.is_main() and self._is_good(name, follows_from)):
            return None
        record = self.records()[name]
        variables = restore(folder, trace(plan.model, plan.dataset), argument="--resume")
        history = {key: np.array(values) for key, values in record["history"].items()}
        return TrainedModel(variables, record["seconds"]), history

    def _is_good(self, name: str, follows_from: str) -> bool:
        """Whether there is such a network, as recorded; delete it if it is another one."""
        folder = self.run / name
        if not folder.exists():
            return False
        try:
            record = self.records().get(name)
            if record is None or record["follows_from"] != follows_from:
                raise DamagedError("belongs to another run or to other settings")
            files.check_files(folder, record["files"])
        except DamagedError as error:
            _log.warning("network %s is made again: %s", folder, error)
            shutil.rmtree(folder)
            return False
        return True

    def finish(
        self, name: str, follows_from: str, network: TrainedModel, history: History | None = None
    ) -> None:
        """Export a network, and delete the checkpoints that led to it.

        Raises:
          OSError: the disk refused it; nothing is left of the network then.
        """
        part = self.folder / f"{files.PART}{name}"
        if hosts.is_main():
            files.remove(part)
        hosts.meet(f"export {name}")
        try:
            export(part, network.variables)
            if hosts.is_main():
                record = {
                    "follows_from": follows_from,
                    "seconds": network.seconds,
                    "history": {key: values.tolist() for key, values in (history or {}).items()},
                    "files": files.file_digests(part),
                }
                self.note(name, record)
                files.publish(part, self.run / name)
                files.remove(self.folder / name)
        finally:
            if hosts.is_main():
                files.remove(part)
        hosts.meet(f"exported {name}")

    def records(self) -> dict[str, Any]:
        """Return what was noted of finished phases, by name.

        Raises:
          DamagedError: the file of records is not what was written.
        """
        return files.read_checksummed(self._record) if self._record.exists() else {}

    def note(self, name: str, record: Mapping[str, Any]) -> None:
        """Add a record of a finished phase."""
        if hosts.is_main():
            self.folder.mkdir(exist_ok=True)
            files.write_checksummed(self._record, {**self.records(), name: record})


def follows_from(plan: Plan, name: str, original: Variables | None = None) -> str:
    """Return the SHA-256 of all that a network of a run follows from.

    Args:
      plan: of the run.
      name: `original`, `retrain`, `retrain_2` or `unlearned`.
      original: where `unlearned` starts; for `original` the one given, if one was.
    """
    settings = {
        "training": training_digest(plan, "original" if name == "unlearned" else name),
        "given": None if original is None else variables_digest(original),
    }
    if name != "unlearned":
        return fingerprint({}, settings)
    split = plan.split._asdict()
    return fingerprint(split, settings, plan.method.name, repr(plan.config), repr(plan.only))


def variables_digest(variables: Variables) -> str:
    """Return the SHA-256 of a network's arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return files.array_digest(
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    )
