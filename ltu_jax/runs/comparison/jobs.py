"""Jobs of a comparison: each result is made once, kept in a file, and may be made in parallel."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from ltu_jax import files
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.runs.comparison.bench import Setting

MODELS = ("original", "retrain", "retrain_2")  # trained, not unlearned
Result = dict[str, Any]


class Variant(NamedTuple):
    """A method, or a model of `MODELS`, with some options set.

    Attributes:
      method: name of the method.
      options: options that differ from the defaults, as a JSON object.
    """

    method: str
    options: str = "{}"


def variant(method: str, **options: Any) -> Variant:
    """Return a method with these options."""
    return Variant(method, json.dumps(plain(options), sort_keys=True))


class Job(NamedTuple):
    """One result to be made.

    Attributes:
      setting: data, model and forget set.
      variant: method and options.
      seed: training seed.
      repeat: number of the run of the method on the same original model.
    """

    setting: Setting
    variant: Variant
    seed: int
    repeat: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The options of the variant."""
        return json.loads(self.variant.options)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the job."""
        return files.digest(json.dumps(self).encode())[:16]


def stages(jobs: Sequence[Job]) -> list[list[list[Job]]]:
    """Return groups of jobs in three stages: original models, retrained ones, methods.

    The jobs of a group train the same original, or run the same programs on several seeds.
    """
    stage_of = {"original": 0, "retrain": 1, "retrain_2": 1}
    groups: list[dict[Any, list[Job]]] = [{}, {}, {}]
    for job in jobs:
        stage = stage_of.get(job.variant.method, 2)
        trained = job.setting._replace(forget="", retain_fraction=0.0)
        same = ((trained, job.seed), job, job[:2])[stage]
        groups[stage].setdefault(same, []).append(job)
    return [list(stage.values()) for stage in groups]


def make_missing(
    groups: Sequence[Sequence[Job]],
    make: Callable[[Job], Result],
    path: Callable[[Job], Path],
    source: Callable[[], Mapping[str, Any]],
    *,
    workers: int = 1,
    until: float | None = None,
) -> Iterator[str]:
    """Make and write the results that have no file yet; yield a line for each.

    Args:
      groups: jobs; those of a group run in one process. With several workers, jobs, `make`,
        `path` and `source` are pickled.
      make: runs a job.
      path: file of a job's result.
      source: provenance of the results that a process makes.
      workers: number of processes.
      until: `time.time` after which no job starts.
    """
    missing = [group for group in groups if not all(path(job).exists() for job in group)]
    arguments = (make, path, source, until)
    if workers == 1:
        for group in missing:
            yield from _make_group(group, *arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        running = [executor.submit(_lines_of_group, group, *arguments) for group in missing]
        for done in as_completed(running):
            yield from done.result()


def _make_group(group: Sequence[Job], make, path, source, until: float | None) -> Iterator[str]:
    for job in group:
        if until is not None and time.time() > until:
            return
        if path(job).exists():
            continue
        start = time.perf_counter()
        result = make(job)
        write_json(path(job), plain({**result, "source": source()}))
        gap = result.get("avg_gap")
        found = result["failure"] if gap is None else f"average gap {gap:.2f}"
        seconds = time.perf_counter() - start
        name = f"{job.setting.forget}, seed {job.seed}: {' '.join(job.variant)}"
        yield f"{name.removesuffix(' {}')} {found} ({seconds:.0f} s)"


def _lines_of_group(*arguments) -> list[str]:
    return list(_make_group(*arguments))
