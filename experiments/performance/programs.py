"""Programs that whole commands compile: by name, how often, and in how many seconds.

Every command runs in a fresh process with a compilation cache that is empty at first. JAX reports
each program that it compiles or finds in the cache (`jax.monitoring`); programs that compile in
less than `LISTED_SECONDS` are not listed by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.lib.provenance import ROOT
from ltu_jax.data import from_arrays
from ltu_jax.types import Dataset, Examples

EXAMPLES, CLASSES = 12_000, 10
LISTED_SECONDS = 0.2
SIZES = (1, 37, 500, 5_000)
DATA = "experiments.performance.programs:blurred_classes"
LINE = "programs: "
Program = dict[str, Any]


def requests(method: str, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Return the programs of requests of several sizes and of one class, a process for each.

    All forget from one `mlp`, trained by a process before them. Each request has the programs
    that the ones before it left in the cache.
    """
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        folder = Path(name)
        common = ["unlearn", "--data", DATA, "--epochs", "1", "--reference", "none", "--quiet"]
        original = ["--method", "nothing", "--out", str(folder / "original"), "--model", "mlp"]
        compiled_by([*common, *original], folder)
        checkpoint = ["--model", "mlp", "--checkpoint", str(folder / "original/original")]
        cases = {f"{size:,} rows": ids(size, folder) for size in sizes}
        cases["one class"] = ["--forget-class", "3"]
        rows = {
            case: compiled_by(
                [*common, *checkpoint, "--method", method, *asked, "--out", str(folder / case)],
                folder,
            )
            for case, asked in cases.items()
        }
    return {"method": method, **summary(rows)}


def trials(method: str, count: int) -> dict[str, Any]:
    """Return the programs of so many tuning trials of one method on digits, in one process."""
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        tune = ["tune", "--data", "digits", "--method", method, "--trials", str(count)]
        rest = ["--epochs", "2", "--reference", "none", "--quiet", "--out", str(Path(name) / "run")]
        rows = {f"{count} trials": compiled_by([*tune, *rest], Path(name))}
    return {"method": method, "trials": count, **summary(rows)}


def ids(size: int, folder: Path) -> list[str]:
    """Return the options of a request for so many random rows."""
    path = folder / f"{size}.txt"
    rows = np.random.default_rng(size).permutation(EXAMPLES)[:size]
    path.write_text("\n".join(map(str, np.sort(rows))), encoding="utf-8")
    return ["--forget-ids", str(path)]


def compiled_by(arguments: Sequence[str], folder: Path) -> list[Program]:
    """Run one `ltu` command in a fresh process and return its programs in their order."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-m", "experiments.performance.programs", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(LINE)]
    if done.returncode or not lines:
        raise RuntimeError(f"`ltu {' '.join(arguments)}` ended with {done.returncode}")
    return json.loads(lines[-1].removeprefix(LINE))


def summary(rows: dict[str, list[Program]]) -> dict[str, Any]:
    """Return by command how much it compiled, and by program how often it was compiled in all.

    >>> one = {"name": "step", "seconds": 2.0, "cached": False}
    >>> found = summary({"first": [one], "second": [{**one, "cached": True}]})
    >>> found["programs"]["step"]["compiled"], found["commands"]["second"]["compiled"]
    (1, 0)
    """
    everything = [program for programs in rows.values() for program in programs]
    names = dict.fromkeys(program["name"] for program in large(everything))
    return {
        "commands": {case: totals(programs) for case, programs in rows.items()},
        "programs": {
            name: totals(program for program in everything if program["name"] == name)
            for name in names
        },
    }


def large(programs: Iterable[Program]) -> list[Program]:
    """Return the programs that took long to compile."""
    return [one for one in programs if not one["cached"] and one["seconds"] >= LISTED_SECONDS]


def totals(programs: Iterable[Program]) -> dict[str, Any]:
    """Return how many programs were compiled and found in the cache, and the seconds of both."""
    programs = list(programs)
    compiled = [one for one in programs if not one["cached"]]
    return {
        "compiled": len(large(compiled)),
        "compiled_small": len(compiled) - len(large(compiled)),
        "from_cache": len(programs) - len(compiled),
        "compile_seconds": sum(one["seconds"] for one in compiled),
    }


def watch() -> list[Program]:
    """Return a list that receives every program that this process compiles or finds."""
    found: list[Program] = []
    hits: list[str] = []

    def on_event(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    def on_duration(event: str, seconds: float, fun_name: str = "?", **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append({"name": fun_name, "seconds": seconds, "cached": bool(hits)})
            hits.clear()

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    return found


@cache
def blurred_classes() -> Dataset:
    """Return noisy images of ten patterns, 8 by 8 pixels, that an `mlp` can learn."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (CLASSES, 8, 8, 1))

    def draw(size: int) -> Examples:
        labels = np.arange(size) % CLASSES
        inputs = 0.4 * patterns[labels] + 0.6 * rng.uniform(0, 255, (size, 8, 8, 1))
        return Examples(inputs.astype(np.uint8), labels)

    return from_arrays(
        draw(EXAMPLES), draw(EXAMPLES // 4), name="patterns", mean=(0.5,), std=(0.25,)
    )


def _command(arguments: list[str]) -> None:
    from ltu_jax.cli.main import main

    start, found = time.perf_counter(), watch()
    try:
        main(arguments)
    finally:
        print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
        print(LINE + json.dumps(found))


if __name__ == "__main__":
    _command(sys.argv[1:])
