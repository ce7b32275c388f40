"""Where a run's numbers are sent beside its own files: TensorBoard, Weights & Biases.

Only names of phases, steps and their numbers are sent; never an id, an example or a score of one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

from ltu_jax.errors import InputError
from ltu_jax.training import hosts


class Tracker(Protocol):
    """One receiver of numbers."""

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Send the numbers of one step."""

    def close(self) -> None:
        """Send what is still waiting."""


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Write one scalar for each number."""
        for name, value in info.items():
            self._writer.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        """Write what is still waiting."""
        self._writer.close()


class WeightsAndBiases:
    """A run of a project; one that is resumed here is a new one there."""

    def __init__(self, project: str, name: str, folder: Path):
        import wandb

        # Neither the terminal's text nor the code: both may hold names that should stay here.
        settings = wandb.Settings(console="off", disable_git=True, save_code=False)
        self._run = wandb.init(project=project, name=name, dir=str(folder), settings=settings)

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Log one step, with the phase's own count of steps."""
        named = {f"{phase}/{name}": value for name, value in info.items()}
        self._run.log({f"{phase}/step": step, **named})

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


def open_trackers(folder: Path, tensorboard: bool, wandb: str | None) -> list[Tracker]:
    """Return where the numbers of the run in `folder` go; process 0 alone sends them."""
    if not hosts.is_main():
        return []
    found: list[Tracker] = [TensorBoard(folder / "tensorboard")] if tensorboard else []
    return found if wandb is None else [*found, WeightsAndBiases(wandb, folder.name, folder)]


def check_installed(argument: str, package: str, extra: str) -> None:
    """Raise `InputError` unless the package that an option needs is there."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"{argument}: the package {package} is missing; "
            f"install it with pip install 'ltu-jax[{extra}]'"
        )
