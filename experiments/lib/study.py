"""Runs that several experiments share: one network, one method, one row, each kept on disk.

A job is a setting, a variant of a method and a training seed. Its row is written under what it
follows from, so that an interrupted experiment goes on and two experiments share what both need;
so are the networks. Jobs may be spread over processes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from experiments.lib.forget_sets import FORGET_SETS
from experiments.lib.provenance import git_state
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions

FOLDER = Path("runs/study")
NETWORKS = ("original", "retrain", "retrain_2")
Row = dict[str, Any]


class Setting(NamedTuple):
    """What is forgotten from which networks.

    Attributes:
      data: as for `ltu unlearn`; so for the next two.
      train_size: training examples; None takes all.
      model: the network.
      forget: a name in `forget_sets.FORGET_SETS`.
      retain_fraction: rho.
      epochs: of all training; None is the model's own number.
    """

    data: str = "cifar10"
    train_size: int | None = 10_000
    model: str = "cnn"
    forget: str = "random_10"
    retain_fraction: float = 0.3
    epochs: int | None = None


class Variant(NamedTuple):
    """A method with some of its options set; the names in `NETWORKS` are methods as well.

    Attributes:
      method: its name.
      options: those that differ from its defaults, as a JSON object.
    """

    method: str
    options: str = "{}"


def variant(method: str, **options: Any) -> Variant:
    """Return a method with these options."""
    return Variant(method, json.dumps(plain(options), sort_keys=True))


def options_of(one: Variant) -> dict[str, Any]:
    """Return a variant's options."""
    return json.loads(one.options)


class Job(NamedTuple):
    """One row to be made."""

    setting: Setting
    variant: Variant
    seed: int


def run(
    jobs: Iterable[Job],
    *,
    data_dir: str | None = None,
    workers: int = 1,
    until: float | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Row]:
    """Make the rows that are missing and return all that there are, by `key`.

    Args:
      jobs: in order of importance.
      data_dir: where TFDS keeps its data.
      workers: processes; jobs that differ in their seed alone share one, as they share programs.
      until: of `time.time`; what has not begun by then is left out.
      say: called with a line for each row that is made.
    """
    jobs = list(dict.fromkeys(jobs))
    make = partial(_make_group, data_dir=data_dir, until=until)
    for stage in stages(jobs):
        groups = [
            left for group in stage if (left := [j for j in group if not path_of(j).exists()])
        ]
        for lines in _all_done(make, groups, workers):
            for line in lines:
                say(line)
    return {key(job): read(job) for job in jobs if path_of(job).exists()}


def rows_of(
    wanted: Sequence[Job], *, gather: bool = False, data_dir: str | None = None
) -> dict[Job, Row]:
    """Return the rows of jobs, made where they are missing; with `gather` those that are there."""
    made = [job for job in wanted if not gather or path_of(job).exists()]
    rows = run(made, data_dir=data_dir, workers=workers_here())
    return {job: rows[key(job)] for job in made if key(job) in rows}


def stages(jobs: Sequence[Job]) -> list[list[list[Job]]]:
    """Return groups of jobs in three stages: original networks, retrained ones, methods.

    A group goes to one process: jobs that train the same original, or run the same programs.
    """
    stage_of = {"original": 0, "retrain": 1, "retrain_2": 1}
    groups: list[dict[Any, list[Job]]] = [{}, {}, {}]
    for job in jobs:
        stage = stage_of.get(job.variant.method, 2)
        trained = job.setting._replace(forget="", retain_fraction=0.0)
        same = ((trained, job.seed), job, job[:2])[stage]
        groups[stage].setdefault(same, []).append(job)
    return [list(stage.values()) for stage in groups]


def _all_done(
    make: Callable[[Sequence[Job]], list[str]], groups: Sequence[Sequence[Job]], workers: int
) -> Iterator[list[str]]:
    if workers == 1:
        yield from map(make, groups)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done in as_completed([pool.submit(make, group) for group in groups]):
            yield done.result()


def read(job: Job) -> Row:
    """Return the row of a job that has been run."""
    return json.loads(path_of(job).read_text(encoding="utf-8"))


def key(job: Job) -> str:
    """Return what a job is called: a digest of all that it says."""
    text = json.dumps([job.setting, job.variant, job.seed])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def path_of(job: Job) -> Path:
    """Return the file of a job's row."""
    return FOLDER / "rows" / f"{key(job)}.json"


def make_row(job: Job, data_dir: str | None = None) -> Row:
    """Run a job and return its row; a method that diverges gives a row that says so."""
    from ltu_jax.audit import attacks, signals
    from ltu_jax.audit.measure import measure_model
    from ltu_jax.errors import DivergedError, InvariantError

    made = bench(job.setting, job.seed, data_dir)
    options = options_of(job.variant)
    about = {"setting": job.setting._asdict(), "seed": job.seed, "method": job.variant.method}
    about["options"] = options
    history: dict[str, Any] = {}
    if job.variant.method in NETWORKS:
        network = made.network(job.variant.method)
    else:
        try:
            network, history = made.unlearned(job.variant)
        except (DivergedError, InvariantError) as error:
            return {**about, "failure": str(error)}
    measured = measure_model(made.plan.problem, "retrain", network).row._asdict()
    outputs = {name: made.outputs(one) for name, one in
               (("before", made.network("original")), ("after", network))}  # fmt: skip
    forget, test = outputs["after"]
    enough = min(len(forget.labels), len(test.labels)) >= attacks.LEAST_SUPERVISED
    margins = [
        signals.margin(part.logits, part.labels)
        for pair in zip(outputs["before"], outputs["after"], strict=True)
        for part in pair
    ]
    return plain(
        {
            **about,
            "failure": None,
            **{name: measured[name] for name in measured if name not in ("model", "gaps")},
            "supervised": attacks.supervised(*forget, *test) if enough else None,
            "two_model": attacks.two_model(*margins),
            "conflicts": conflicts(history),
        }
    )


def conflicts(history: Mapping[str, np.ndarray]) -> Row | None:
    """Return how the two gradients stood to each other over the steps; None without two."""
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


class Bench:
    """A setting and a training seed: plan and networks, each made when it is needed."""

    def __init__(self, setting: Setting, seed: int, data_dir: str | None):
        from ltu_jax.data import load
        from ltu_jax.runs.plan import make_plan

        self._networks: dict[str, Any] = {}
        source = FORGET_SETS[setting.forget]
        data = load(setting.data, data_dir=data_dir, train_size=setting.train_size, seed=seed)
        data = source.dataset(data)
        shared = {"model": setting.model, "epochs": setting.epochs, "seed": seed}

        def outputs() -> np.ndarray:  # of the original, whose training knows no forget set
            from ltu_jax.training.supervised import predict

            self.plan = make_plan(data, None, **shared)
            network = self.network("original")
            return np.asarray(predict(self.plan.model, network.variables, data.train.inputs))

        request = source.request(seed, data, outputs)
        rho = setting.retain_fraction
        self.plan = make_plan(data, request, **shared, reference="retrain", retain_fraction=rho)

    def network(self, name: str) -> Any:
        """Return the original or a retrained network."""
        from ltu_jax.runs.comparison.cache import cached_network

        if name not in self._networks:
            self._networks[name] = cached_network(FOLDER / "networks", self.plan, name)
        return self._networks[name]

    def unlearned(self, variant: Variant) -> tuple[Any, Mapping[str, np.ndarray]]:
        """Return what a method makes of the original, and its history."""
        import ltu_jax.unlearners as unlearners
        from ltu_jax.runs.networks import unlearn_network
        from ltu_jax.runs.plan import with_method

        method = unlearners.find(variant.method)
        config = unlearners.configure(method, options_of(variant))
        plan = with_method(self.plan, method, config)
        return unlearn_network(plan, self.network("original").variables)

    def outputs(self, network: Any) -> tuple[Any, Any]:
        """Return a network's logits on forget and test examples, with their labels."""
        from ltu_jax.audit.features import Labelled
        from ltu_jax.training.supervised import predict

        parts = (
            (self.plan.dataset.train, self.plan.split.forget),
            (self.plan.dataset.heldout, self.plan.split.test),
        )
        return tuple(
            Labelled(
                np.asarray(predict(self.plan.model, network.variables, examples.inputs[rows])),
                examples.labels[rows],
            )
            for examples, rows in parts
        )


bench = lru_cache(maxsize=8)(Bench)


def _make_group(group: Sequence[Job], *, data_dir: str | None, until: float | None) -> list[str]:
    """Make the rows of some jobs, and return a line on each."""
    import jax

    from ltu_jax.cli.compilation_cache import keep_programs

    keep_programs(FOLDER)
    lines = []
    for job in group:
        if until is not None and time.time() > until:
            break
        start = time.perf_counter()
        source = {
            "git": git_state(),
            "versions": versions(),
            "device": jax.devices()[0].device_kind,
        }
        row = {**make_row(job, data_dir), "source": source}
        write_json(path_of(job), row)
        seconds = time.perf_counter() - start
        lines.append(f"{_told(job)}: {row['failure'] or 'done'} ({seconds:.0f} s)")
    return lines


def _told(job: Job) -> str:
    return f"{job.setting.forget}, seed {job.seed}, {' '.join(job.variant)}"


def source(command: str, rows: Iterable[Row]) -> Row:
    """Return what a result file says of where it comes from: its command, and that of its rows."""
    made_by: list[Row] = []
    for row in rows:
        if row["source"] not in made_by:
            made_by.append(row["source"])
    return {
        "command": f"python -m {command}",
        "git": git_state(),
        "versions": versions(),
        "rows_made_by": made_by,
    }


def cell(rows: Mapping[Job, Row], same: Sequence[Job]) -> Row:
    """Return means and intervals over the seeds of one method in one setting.

    Args:
      rows: those of `same`, and of Retrain in the same setting.
      same: jobs that differ in their seed alone.
    """
    good = [job for job in same if rows[job]["failure"] is None]
    retrain = {job.seed: rows[job._replace(variant=variant("retrain"))] for job in good}
    measures = ("ua", "ra", "ta", "mia", "auc", "ks", "supervised", "two_model")
    return {
        "seeds": [job.seed for job in good],
        "gap": interval([gap(rows[job], retrain[job.seed]) for job in good]),
        **{name: interval([rows[job][name] for job in good]) for name in measures},
    }


def gap(row: Row, retrain: Row) -> float:
    """Return the average gap to Retrain over UA, RA, TA and MIA, in points."""
    return float(np.mean([abs(row[name] - retrain[name]) for name in ("ua", "ra", "ta", "mia")]))


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return mean and t-interval of some values; of a single one an interval without end."""
    values = np.asarray(values, float)
    half = np.inf
    if len(values) > 1:
        quantile = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)
        half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def workers_here() -> int:
    """Return how many processes share the jobs: `LTU_STUDY_WORKERS`, or one."""
    return int(os.environ.get("LTU_STUDY_WORKERS", "1"))
