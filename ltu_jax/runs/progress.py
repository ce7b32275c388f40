"""Progress of a run: bars or JSON lines, `metrics.jsonl`, TensorBoard and Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import rich.progress

from ltu_jax import files
from ltu_jax.errors import InputError
from ltu_jax.terminal import Terminal, is_unicode, write_line
from ltu_jax.training import hosts

OnInfo = Callable[[int, dict[str, float]], None]
Log = Literal["text", "json"]
EVENT_SECONDS = 1.0  # least time between two JSON events of a phase
REPEATED_SECONDS = 0.05  # steps of a checkpoint are repeated faster than this


class Tracker(Protocol):
    """A receiver of metrics: names of phases, steps and numbers, never an id or an example."""

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Send the metrics of one step."""

    def close(self) -> None:
        """Send all pending metrics."""


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Write one scalar per metric."""
        for name, value in info.items():
            self._writer.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        """Write all pending metrics."""
        self._writer.close()


class WeightsAndBiases:
    """A run of a W&B project; a resumed run starts a new one there."""

    def __init__(self, project: str, name: str, folder: Path):
        import wandb

        # Neither the terminal's text nor the code: both may hold names that should stay here.
        settings = wandb.Settings(console="off", disable_git=True, save_code=False)
        self._run = wandb.init(project=project, name=name, dir=str(folder), settings=settings)

    def write(self, phase: str, step: int, info: dict[str, float]) -> None:
        """Log one step, with the phase's step counter."""
        named = {f"{phase}/{name}": value for name, value in info.items()}
        self._run.log({f"{phase}/step": step, **named})

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()


def open_trackers(folder: Path, tensorboard: bool, wandb: str | None) -> list[Tracker]:
    """Return the trackers of the run in `folder`; only process 0 has any."""
    if not hosts.is_main():
        return []
    trackers: list[Tracker] = [TensorBoard(folder / "tensorboard")] if tensorboard else []
    return trackers if wandb is None else [*trackers, WeightsAndBiases(wandb, folder.name, folder)]


def check_installed(argument: str, package: str, extra: str) -> None:
    """Raise `InputError` unless the package that an argument needs is installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            argument,
            f"needs the package {package}, which is not installed",
            f"run pip install 'ltu-jax[{extra}]'",
        )


class Progress:
    """Context manager that shows and records the phases of a run.

    Args:
      metrics: JSON-lines file that receives one object per step; `None` writes none. In the file
        of an interrupted run, a phase that starts again replaces its earlier lines.
      quiet: show no bars.
      trackers: receivers of every step.
      log: `json` writes one object per line to stdout instead of bars, unless `quiet`.
    """

    def __init__(
        self,
        metrics: Path | None,
        *,
        quiet: bool,
        trackers: Sequence[Tracker] = (),
        log: Log = "text",
    ):
        self._metrics = metrics
        # Line by line, so that a killed process has written every step.
        self._file = metrics.open("a", encoding="utf-8", buffering=1) if metrics else None
        self._resumed = self._file is not None and self._file.tell() > 0
        self._trackers = trackers
        self._json = log == "json" and not quiet
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:<24}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[eta]}"),
            rich.progress.TextColumn("{task.fields[note]}"),
            # As text in a notebook too: bars of widgets need a package, or warn.
            console=Terminal(stderr=True, force_jupyter=False),
            disable=quiet or log == "json",
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        if self._file:
            self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def note(self, text: str) -> None:
        """Show a sentence above the bars, or write it as an event."""
        if self._json:
            write_event("note", text=text)
        elif not self._bars.disable:
            self._bars.console.print(text, highlight=False)

    def phase(self, name: str, total: int) -> OnInfo:
        """Start a phase of `total` steps.

        Args:
          name: name of the phase in bars and metrics.
          total: number of steps.

        Returns:
          `(step, {name: value}) -> None`, to be called after each step.
        """
        repeated = 0
        if self._metrics and self._file and self._resumed:
            self._file.close()
            repeated = _drop_phase(self._metrics, name)
            self._file = self._metrics.open("a", encoding="utf-8", buffering=1)
        task = self._bars.add_task(name, total=total, note="compiling", eta="")
        write_step = _start_json_phase(name, total) if self._json else None
        remaining = Remaining(total, repeated)

        def on_info(step: int, info: dict[str, float]) -> None:
            seconds = remaining.seconds(step + 1)
            # One value, a loss if there is one: more would push the counts out of 80 columns.
            losses_first = sorted(info.items(), key=lambda item: not item[0].startswith("loss"))
            note = " ".join(f"{key} {value:.3g}" for key, value in losses_first[:1])
            eta = "" if seconds is None else str(timedelta(seconds=round(seconds)))
            self._bars.update(task, completed=step + 1, note=note, eta=eta)
            if write_step:
                write_step(step, seconds, info)
            if self._file:
                self._file.write(json.dumps({"phase": name, "step": step, **info}) + "\n")
            for tracker in self._trackers:
                tracker.write(name, step, info)

        return on_info


class Remaining:
    """Estimate of the time that a phase still takes, from the time of its own steps.

    The first step includes compilation, and a resumed phase repeats the steps of its checkpoint
    in no time; neither counts.

    Args:
      total: number of steps.
      repeated: greatest number of steps that are repeated.
    """

    def __init__(self, total: int, repeated: int = 0):
        self._total, self._repeated = total, repeated
        self._first: tuple[float, int] | None = None
        self._latest = time.monotonic()

    def seconds(self, done: int) -> float | None:
        """Return the seconds that remain after `done` steps; None until two steps are timed."""
        now = time.monotonic()
        gap, self._latest = now - self._latest, now
        is_repeated = done <= self._repeated and gap < REPEATED_SECONDS
        if self._first is None or is_repeated:
            self._first = (now, done)
        elif self._repeated and gap >= REPEATED_SECONDS:
            self._first, self._repeated = (now, done), 0
        if done >= self._total:
            return 0.0
        start, before = self._first
        return (self._total - done) * (now - start) / (done - before) if done > before else None


def write_event(event: str, **values: Any) -> None:
    """Write one event of a run to stdout, as one line of JSON."""
    escaped = not is_unicode()
    write_line(json.dumps({"event": event, **values}, ensure_ascii=escaped, allow_nan=False))


def _start_json_phase(
    name: str, total: int
) -> Callable[[int, float | None, dict[str, float]], None]:
    """Write the event of a phase; return the writer of its steps: the last, and one per second."""
    write_event("phase", phase=name, steps=total)
    latest = time.monotonic()

    def write_step(step: int, remaining: float | None, info: dict[str, float]) -> None:
        nonlocal latest
        now, done = time.monotonic(), step + 1
        if done < total and now - latest < EVENT_SECONDS:
            return
        latest = now
        eta = None if remaining is None else round(remaining, 1)
        write_event("step", phase=name, step=done, steps=total, eta_seconds=eta, **info)

    return write_step


def _drop_phase(metrics: Path, name: str) -> int:
    """Remove the lines of a phase from the file, and an incomplete last line; count the former."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    kept = [line for line in complete if json.loads(line)["phase"] != name]
    files.write(metrics, "".join(kept).encode())
    return len(complete) - len(kept)
