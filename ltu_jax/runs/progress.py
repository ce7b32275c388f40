"""What a run shows and writes while it works: bars or JSON lines, `metrics.jsonl`, trackers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import rich.progress
from rich.console import Console

from ltu_jax import files
from ltu_jax.runs.trackers import Tracker

OnInfo = Callable[[int, dict[str, float]], None]
Log = Literal["text", "json"]
EVENT_SECONDS = 1.0  # between two steps of a phase that are told as JSON


class Progress:
    """A context in which phases are announced; leaving it closes bars and file.

    Args:
      metrics: the JSON-lines file that receives one object per step; `None` writes none. In a file
        of a run that was stopped, a phase that begins again replaces what it had written.
      quiet: show no bars.
      trackers: also receive every step.
      log: `json` writes one object a line to stdout in place of the bars, unless `quiet`.
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
        # Line by line, so that a process that is killed has written every step.
        self._file = metrics.open("a", encoding="utf-8", buffering=1) if metrics else None
        self._resumed = self._file is not None and self._file.tell() > 0
        self._trackers = trackers
        self._json = log == "json" and not quiet
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:<24}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=quiet or log == "json",
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()
        if self._file:
            self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def phase(self, name: str, total: int) -> OnInfo:
        """Announce a phase of `total` steps; call the result after each of them.

        Args:
          name: shown beside the bar and written to the metrics.
          total: how many steps the phase has.

        Returns:
          `(step, {name: value}) -> None`.
        """
        if self._metrics and self._file and self._resumed:
            self._file.close()
            _drop_phase(self._metrics, name)
            self._file = self._metrics.open("a", encoding="utf-8", buffering=1)
        task = self._bars.add_task(name, total=total, note="")
        tell = _teller(name, total) if self._json else None

        def on_info(step: int, info: dict[str, float]) -> None:
            # One value, a loss if there is one: more would push the counts out of 80 columns.
            losses_first = sorted(info.items(), key=lambda item: not item[0].startswith("loss"))
            note = " ".join(f"{key} {value:.3g}" for key, value in losses_first[:1])
            self._bars.update(task, completed=step + 1, note=note)
            if tell:
                tell(step, info)
            if self._file:
                self._file.write(json.dumps({"phase": name, "step": step, **info}) + "\n")
            for tracker in self._trackers:
                tracker.write(name, step, info)

        return on_info


def write_event(event: str, **values: Any) -> None:
    """Write one event of a run to stdout, as one line of JSON."""
    print(json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False), flush=True)


def _teller(name: str, total: int) -> OnInfo:
    """Announce a phase as JSON; return what tells of its steps: the last, and one a second."""
    write_event("phase", phase=name, steps=total)
    began = told = time.monotonic()

    def tell(step: int, info: dict[str, float]) -> None:
        nonlocal told
        now, done = time.monotonic(), step + 1
        if done < total and now - told < EVENT_SECONDS:
            return
        told = now
        eta = round((total - done) * (now - began) / done, 1)
        write_event("step", phase=name, step=done, steps=total, eta_seconds=eta, **info)

    return tell


def _drop_phase(metrics: Path, name: str) -> None:
    """Take the lines of a phase out of the file, and a last line that was not finished."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    files.write(
        metrics, "".join(line for line in whole if json.loads(line)["phase"] != name).encode()
    )
