"""The seconds of `ltu unlearn` in a fresh process, from the command to the report, by stage.

python -m experiments.performance.first_report --forget-class 4
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.lib.provenance import ROOT

LINE = "stages: "
STAGES = ("import", "compile", "read and plan", "train", "unlearn", "audit", "report")


class Mark(NamedTuple):
    """The start of a stage.

    Attributes:
      stage: one of `STAGES`, without `compile`.
      at: seconds since the Epoch.
      compiled: seconds of compilation so far.
    """

    stage: str
    at: float
    compiled: float


def first_report(repeats: int, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Return seconds by stage of the first command and of later ones with a warm cache.

    Args:
      repeats: how many commands run with the programs that the first one left in the cache.
      arguments: of `ltu unlearn`, besides the folder.
    """
    with tempfile.TemporaryDirectory(prefix="first-report-") as name:
        runs = [seconds_of(arguments, Path(name), number) for number in range(1 + repeats)]
    later = sorted(runs[1:], key=lambda run: run["total"])
    rows = {"empty cache": runs[0]}
    if later:
        names = {"fastest": later[0], "median": later[len(later) // 2], "slowest": later[-1]}
        rows |= {f"warm cache, {name}": run for name, run in names.items()}
    return {"command": " ".join(["ltu unlearn", *arguments]), "repeats": repeats, **rows}


def seconds_of(arguments: Sequence[str], folder: Path, number: int) -> dict[str, float]:
    """Run one command and return its seconds by stage and in total."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    out = str(folder / f"run-{number}")
    command = [sys.executable, "-m", "experiments.performance.first_report", *arguments]
    start = time.time()
    done = subprocess.run(
        [*command, "--quiet", "--out", out],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    end = time.time()
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(LINE)]
    marks = [Mark(*mark) for mark in json.loads(line.removeprefix(LINE))]
    return by_stage([Mark("import", start, 0.0), *marks], end)


def by_stage(marks: Sequence[Mark], end: float) -> dict[str, float]:
    """Return the seconds of every stage without compilation, that of compilation, and all.

    >>> marks = [Mark("import", 0.0, 0.0), Mark("train", 2.0, 0.5), Mark("report", 9.0, 3.5)]
    >>> found = by_stage(marks, 10.0)
    >>> [found[name] for name in ("import", "train", "report", "compile", "total")]
    [1.5, 4.0, 1.0, 3.5, 10.0]
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    ends = [*marks[1:], Mark("", end, marks[-1].compiled)]
    for mark, after in zip(marks, ends, strict=True):
        compiled = after.compiled - mark.compiled
        seconds["compile"] += compiled
        seconds[mark.stage] += after.at - mark.at - compiled
    return {**seconds, "total": end - marks[0].at}


def stage_of(event: str, fields: dict[str, Any]) -> str | None:
    """Return the stage that starts with an event of `--log json`; None for one inside a stage.

    >>> stage_of("phase", {"phase": "train retrain", "steps": 9})
    'train'
    >>> stage_of("step", {"phase": "audit", "step": 4, "steps": 4})
    'report'
    """
    phase = fields.get("phase", "")
    if event == "phase":
        return next((stage for stage in STAGES if phase.startswith(stage)), None)
    return "report" if phase == "audit" and fields.get("step") == fields.get("steps") else None


def _command(arguments: list[str]) -> None:
    """Run `ltu unlearn` and print when each of its stages started."""
    from ltu_jax.cli.main import main
    from ltu_jax.runs import progress
    from ltu_jax.training.compilation import compile_clock

    marks: list[Mark] = []
    with compile_clock() as clock:
        marks.append(Mark("read and plan", time.time(), clock.seconds))

        def note(event: str, **fields: Any) -> None:
            stage = stage_of(event, fields)
            if stage is not None:
                marks.append(Mark(stage, time.time(), clock.seconds))

        progress.write_event = note
        arguments = [argument for argument in arguments if argument != "--quiet"]
        main(["unlearn", *arguments, "--log", "json"])
    marks.append(Mark("report", time.time(), clock.seconds))
    print(LINE + json.dumps(marks))


if __name__ == "__main__":
    _command(sys.argv[1:])
