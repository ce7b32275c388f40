"""Jobs, results and command line that the experiments share.

Results and models are kept in `runs/study`, so that an interrupted experiment continues and two
experiments share the results that both need. `LTU_STUDY_WORKERS=2` makes them in two processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.lib.forget_sets import FORGET_SETS
from experiments.lib.provenance import ROOT, command_source, git_state
from ltu_jax.audit import attacks, signals
from ltu_jax.audit.features import LabelledLogits
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.errors import DivergedError, InvariantError
from ltu_jax.files import write_json
from ltu_jax.report.comparison.table import interval
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions
from ltu_jax.runs.comparison.bench import Bench, Setting
from ltu_jax.runs.comparison.jobs import MODELS, Job, Result, make_missing, stages, variant
from ltu_jax.training.supervised import predict
from ltu_jax.types import TrainedModel

FOLDER = Path("runs/study")
REFERENCES = tuple(map(variant, MODELS))


@dataclass(frozen=True)
class Options:
    """Make the missing results, collect them and draw the figure.

    Attributes:
      data_dir: folder of prepared TFDS data.
      quick: a small version that takes seconds to minutes and writes into `runs/`.
      gather: collect the results that exist; make none.
    """

    data_dir: str | None = None
    quick: bool = False
    gather: bool = False


def main(
    name: str,
    compute: Callable[[Options], Mapping[str, Any]],
    *,
    draw: Callable[[Mapping[str, Any]], Any] | None = None,
    render: Callable[[Mapping[str, Any]], str] | None = None,
    args: Sequence[str] | None = None,
) -> None:
    """Run an experiment.

    Args:
      name: stem of its result file and figure.
      compute: makes the results.
      draw: returns the figure, a Matplotlib one.
      render: returns the table to print.
      args: arguments of the command line.
    """
    options = tyro.cli(Options, args=args)
    results = plain(compute(options))
    folder = Path("runs") if options.quick else ROOT / "experiments/results"
    write_json(folder / f"{name}.json", results)
    if draw and not options.quick:
        save(draw(results), ROOT / f"docs/{name}.png")
    if render:
        print(render(results))


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and close it."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def results_of(
    wanted: Iterable[Job], options: Options, until: float | None = None
) -> dict[Job, Result]:
    """Return the results of jobs, made where they are missing; with `gather` those that exist.

    Args:
      wanted: jobs, the most important first.
      options: of the command line.
      until: `time.time` after which no job starts.
    """
    wanted = list(dict.fromkeys(wanted))
    make = partial(make_result, folder=FOLDER, data_dir=options.data_dir)
    workers = int(os.environ.get("LTU_STUDY_WORKERS", "1"))
    for stage in [] if options.gather else stages(wanted):
        files = partial(path_of, folder=FOLDER)
        for line in make_missing(stage, make, files, made_by, workers=workers, until=until):
            print(line, flush=True)
    return {job: read(job) for job in wanted if path_of(job).exists()}


def path_of(job: Job, folder: Path | None = None) -> Path:
    """Return the file of a job's result."""
    return (folder or FOLDER) / "results" / f"{job.digest}.json"


def read(job: Job) -> Result:
    """Return the result of a job that has been run."""
    return json.loads(path_of(job).read_text(encoding="utf-8"))


def bench(
    setting: Setting, seed: int, data_dir: str | None = None, folder: Path | None = None
) -> Bench:
    """Return the models and measurements of a setting and a training seed."""
    return _bench(setting, seed, data_dir, folder or FOLDER)


@lru_cache(maxsize=8)
def _bench(setting: Setting, seed: int, data_dir: str | None, folder: Path) -> Bench:
    cache = folder / "networks"
    return Bench(setting, seed, cache=cache, data_dir=data_dir, scenarios=FORGET_SETS)


def make_result(job: Job, folder: Path, data_dir: str | None = None) -> Result:
    """Run a job and measure its model; a method that diverges gives a result that says so."""
    keep_programs(folder)
    here, method = bench(job.setting, job.seed, data_dir, folder), job.variant.method
    result = {
        "setting": job.setting._asdict(),
        "seed": job.seed,
        "method": method,
        "options": job.options,
        "failure": None,
    }
    history: Mapping[str, np.ndarray] = {}
    if method in MODELS:
        model = here.model(method)
    else:
        try:
            model, history = here.unlearned(method, job.options)
        except (DivergedError, InvariantError) as error:
            return {**result, "failure": str(error)}
    before, after = outputs(here, here.model("original")), outputs(here, model)
    enough = min(len(part.labels) for part in after) >= attacks.LEAST_SUPERVISED
    margins = [
        signals.margin(part.logits, part.labels)
        for pair in zip(before, after, strict=True)
        for part in pair
    ]
    return {
        **result,
        **here.measure(method, model),
        "supervised": attacks.supervised_auc(*after[0], *after[1]) if enough else None,
        "two_model": attacks.two_model_auc(*margins),
        "conflicts": conflicts(history),
    }


def outputs(here: Bench, model: TrainedModel) -> list[LabelledLogits]:
    """Return a model's logits on forget and test examples, with their labels."""
    plan = here.plan
    parts = (
        (plan.dataset.train, plan.split.forget),
        (plan.dataset.heldout, plan.split.test),
    )
    return [
        LabelledLogits(
            np.asarray(predict(plan.model, model.variables, examples.inputs[rows])),
            examples.labels[rows],
        )
        for examples, rows in parts
    ]


def conflicts(history: Mapping[str, np.ndarray]) -> Result | None:
    """Return statistics of the cosine of both gradients over the steps; None without two."""
    if "cosine" not in history:
        return None
    cosine = np.asarray(history["cosine"])
    norms = [np.asarray(history[f"norm_{name}"]) for name in ("remember", "forget")]
    return {
        "share": 100 * float(np.mean(cosine < 0)),
        "deciles": np.quantile(cosine, np.arange(0.1, 1, 0.1)).tolist(),
        "mean": float(cosine.mean()),
        "by_tenth": [float(part.mean()) for part in np.array_split(cosine, 10)],
        "norm_ratio": float(np.median(norms[1] / np.maximum(norms[0], 1e-12))),
    }


def made_by() -> Result:
    """Return the provenance of a result."""
    device = jax.devices()[0].device_kind
    return {"git": git_state(), "versions": versions(), "device": device}


def source(module: str, results: Iterable[Result]) -> Result:
    """Return the provenance of a result file made from several results."""
    unique: list[Result] = []
    for result in results:
        if result["source"] not in unique:
            unique.append(result["source"])
    return {**command_source(module), "rows_made_by": unique}


def summary(results: Mapping[Job, Result], jobs: Sequence[Job]) -> Result:
    """Return means and intervals over the seeds of one method in one setting.

    Args:
      results: by job.
      jobs: those that differ in their seed alone.
    """
    good = {job.seed: results[job] for job in jobs if results[job]["failure"] is None}
    metrics = ("ua", "ra", "ta", "mia", "auc", "ks", "supervised", "two_model")
    return {
        "seeds": list(good),
        "gap": interval([result["avg_gap"] for result in good.values()]),
        **{name: interval([result[name] for result in good.values()]) for name in metrics},
    }


def same(results: Iterable[Job], job: Job) -> list[Job]:
    """Return the jobs that differ from `job` in their seed alone."""
    return [other for other in results if other[:2] == job[:2]]
