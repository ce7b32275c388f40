"""What a run shows and writes while it works: a bar per phase, every step to `metrics.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import rich.progress
from rich.console import Console

OnInfo = Callable[[int, dict[str, float]], None]


class Progress:
    """A context in which phases are announced; leaving it closes bars and file.

    Args:
      metrics: the JSON-lines file that receives one object per step; `None` writes none.
      quiet: show no bars.
    """

    def __init__(self, metrics: Path | None, *, quiet: bool):
        self._file = metrics.open("a", encoding="utf-8") if metrics else None
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:<24}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=quiet,
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

    def phase(self, name: str, total: int) -> OnInfo:
        """Announce a phase of `total` steps; call the result after each of them.

        Args:
          name: shown beside the bar and written to the metrics.
          total: how many steps the phase has.

        Returns:
          `(step, {name: value}) -> None`.
        """
        task = self._bars.add_task(name, total=total, note="")

        def on_info(step: int, info: dict[str, float]) -> None:
            note = " ".join(f"{key} {value:.3g}" for key, value in list(info.items())[:2])
            self._bars.update(task, completed=step + 1, note=note)
            if self._file:
                self._file.write(json.dumps({"phase": name, "step": step, **info}) + "\n")

        return on_info
