"""A comparison of methods on scenarios and seeds, kept in a folder.

`results/` holds one file per result and `tuning/` one per choice of options, so that an interrupted
comparison continues and several processes may share a folder, for example one per scenario.
`compare.json` and the tables are collected from them at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ltu_jax.unlearners as unlearners
from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.errors import DivergedError, InputError, InvariantError
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.runs.comparison.bench import Bench
from ltu_jax.runs.comparison.jobs import Job, Result, Variant, make_missing
from ltu_jax.runs.comparison.options import Comparison
from ltu_jax.runs.models import REFERENCES, unlearn_model
from ltu_jax.runs.plan import Plan, visible_data, with_method
from ltu_jax.runs.tuning import select
from ltu_jax.training.loop import Cost, step_cost
from ltu_jax.types import TrainedModel, UnlearnData
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.sampling import concatenate

_METRICS = (*GAP_METRICS, "avg_gap", "auc", "ks", "seconds")


def run(
    comparison: Comparison, *, source: Mapping[str, Any], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Make the missing results and return everything, as `compare.json` holds it.

    Args:
      comparison: what is compared.
      source: provenance: command, versions, commit.
      say: called with one line per result.

    Raises:
      InputError: an option is wrong, or the folder holds another comparison.
    """
    _check_config(comparison)
    for line in make_missing(
        list(_jobs(comparison)),
        partial(make_result, comparison),
        partial(result_path, comparison.out),
        lambda: source,
    ):
        say(line)
    return collect(comparison)


def collect(comparison: Comparison) -> dict[str, Any]:
    """Return all results of the folder with their sources, and write them to `compare.json`."""
    rows, sources = [], []
    for path in sorted((comparison.out / "results").glob("*.json")):
        result = _read(path)
        if result["source"] not in sources:
            sources.append(result["source"])
        rows.append({**result, "source": sources.index(result["source"])})
    order = {name: i for i, name in enumerate(SCENARIOS)}
    rows.sort(key=lambda row: (order[row["scenario"]], row["train_seed"], row["unlearn_seed"]))
    tuning = {path.stem: _read(path) for path in sorted((comparison.out / "tuning").glob("*.json"))}
    results = {
        "config": comparison.config(),
        "seeds": sorted({row["train_seed"] for row in rows}),
        "sources": sources,
        "tuning": tuning,
        "rows": rows,
    }
    write_json(comparison.out / "compare.json", results)
    return results


def result_path(folder: Path, job: Job) -> Path:
    """Return the file of a result in a comparison's folder."""
    name = f"{job.setting.forget}-{job.seed}-{job.repeat}-{job.variant.method}"
    return folder / "results" / f"{name}.json"


@lru_cache(maxsize=2)  # the present one, and the one on which options are chosen
def bench(comparison: Comparison, scenario: str, seed: int) -> Bench:
    """Return the models and measurements of a scenario and a training seed."""
    setting = comparison.setting(scenario)
    return Bench(
        setting,
        seed,
        cache=comparison.cache,
        data_dir=comparison.data_dir,
        scenarios=comparison.scenario_table,
        checkpoint=comparison.checkpoint,
    )


def make_result(comparison: Comparison, job: Job) -> Result:
    """Run a job: a method, the original (`nothing`) or a retrained model."""
    name = job.variant.method
    result = {
        "method": name,
        "scenario": job.setting.forget,
        "train_seed": job.seed,
        "unlearn_seed": job.repeat,
        "selected_by": None,
        "options": {},
        "failure": None,
    }
    here = bench(comparison, job.setting.forget, job.seed)
    if name in (*REFERENCES, "nothing"):
        model = here.model("original" if name == "nothing" else name)
        return {**result, **here.measure(name, model)}
    method = comparison.entries[name]
    try:
        options, result["selected_by"] = tuned_options(comparison, method, job.setting.forget)
        result["options"] = options
        data = visible_data(here.plan.dataset, here.plan.split)
        plan, data = matched(comparison, here, method, options, data)
        original = here.model("original").variables
        model, _ = unlearn_model(plan, original, data=data, repeat=job.repeat)
        result |= here.measure(method.name, model)
    except (DivergedError, InvariantError, InputError) as error:
        return {**result, **dict.fromkeys(_METRICS), "failure": str(error)}
    return {**result, "peak_bytes": _peak_bytes(comparison, here, plan, data)}


def tuned_options(
    comparison: Comparison, method: Method, scenario: str
) -> tuple[dict[str, Any], str]:
    """Return the options of a method in a scenario and how they were chosen."""
    if comparison.select == "default" or not method.space:
        return {}, "default"
    path = comparison.out / "tuning" / f"{scenario}-{method.name}.json"
    if not path.exists():
        write_json(path, plain(_tune(comparison, method, scenario)))
    return _read(path)["options"], comparison.select


def _tune(comparison: Comparison, method: Method, scenario: str) -> dict[str, Any]:
    """Run the trials of a method on the selection seed; return all of them and the choice."""
    here = bench(comparison, scenario, comparison.select_seed)

    def oracle(model: TrainedModel) -> float:
        return here.measure(method.name, model)["avg_gap"]

    selection = select(
        with_method(here.plan, method, None),
        here.model("original").variables,
        trials=comparison.trials,
        oracle=oracle if comparison.select == "oracle" else None,
    )
    return {**selection.describe(), "scenario": scenario, "train_seed": comparison.select_seed}


def matched(
    comparison: Comparison,
    here: Bench,
    method: Method,
    options: Mapping[str, Any],
    data: UnlearnData,
) -> tuple[Plan, UnlearnData]:
    """Return the plan of a method and the data that it sees, matched to LTU's as requested."""
    config = unlearners.configure(method, options)
    plan = with_method(here.plan, method, config, data)
    if plan.unlearner.invariants.uses_validation or comparison.match == "none":
        return plan, data
    if comparison.match == "data":
        data = data._replace(retain=concatenate(data.retain, data.validation))
        return with_method(plan, method, config, data), data
    length = next((name for name in ("epochs", "steps") if hasattr(config, name)), None)
    if length is None:
        return plan, data  # a method of one pass cannot use more compute
    ratio = _ltu_flops(comparison, here.setting.forget, here.seed) / flops(here, plan, data)
    config = replace(config, **{length: max(1, round(getattr(config, length) * ratio))})
    return with_method(plan, method, config, data), data


@lru_cache(maxsize=2)
def _ltu_flops(comparison: Comparison, scenario: str, seed: int) -> float:
    here, ltu = bench(comparison, scenario, seed), unlearners.find("ltu")
    config = unlearners.configure(ltu, tuned_options(comparison, ltu, scenario)[0])
    data = visible_data(here.plan.dataset, here.plan.split)
    return flops(here, with_method(here.plan, ltu, config), data)


def flops(here: Bench, plan: Plan, data: UnlearnData) -> float:
    """Return the floating-point operations of all steps of a plan's method."""
    return plan.unlearner.num_steps * _cost(here, plan, data).flops


def _peak_bytes(comparison: Comparison, here: Bench, plan: Plan, data: UnlearnData) -> int | None:
    # Kept per method, as compiling is slow and the seeds of a scenario differ by a few examples.
    path = comparison.out / "peaks" / f"{here.setting.forget}-{plan.method.name}.json"
    if not path.exists():
        write_json(path, _cost(here, plan, data).peak_bytes or None)
    return json.loads(path.read_text(encoding="utf-8"))


def _cost(here: Bench, plan: Plan, data: UnlearnData) -> Cost:
    return step_cost(plan.unlearner, here.model("original").variables, data)


def _jobs(comparison: Comparison) -> Iterator[list[Job]]:
    """Yield the jobs of each scenario and seed: references first, then methods."""
    names = [(name, 0) for name in (*REFERENCES, "nothing")]
    names += [(name, repeat) for name in comparison.entries for repeat in comparison.unlearn_seeds]
    for scenario in comparison.scenarios:
        setting = comparison.setting(scenario)
        for seed in comparison.train_seeds:
            yield [Job(setting, Variant(name), seed, repeat) for name, repeat in names]


def _check_config(comparison: Comparison) -> None:
    """Write the settings into the folder, or stop where it holds those of another comparison."""
    path, config = comparison.out / "config.json", comparison.config()
    if not path.exists():
        subsets = comparison.forget_ids is not None and comparison.train_size is not None
        seeds = comparison.train_seeds if subsets else comparison.train_seeds[:1]
        for scenario in comparison.scenarios:  # finds bad input before anything is written
            for seed in seeds:
                _ = bench(comparison, scenario, seed).plan
        write_json(path, config)
        return
    present = _read(path)
    for name in sorted(present.keys() | config.keys()):
        if present.get(name) != config.get(name):
            raise InputError(
                "out",
                f"{comparison.out} holds a comparison with {name} {present.get(name)}, not "
                f"{config.get(name)}",
                "choose another folder",
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("out", f"{path} is damaged ({error})", "delete that file") from error
    if not isinstance(content, dict):
        raise InputError("out", f"{path} is damaged (not a JSON object)", "delete that file")
    return content
