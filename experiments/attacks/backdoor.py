"""Is a backdoor gone once the poisoned examples are unlearned?

    python -m experiments.attacks.backdoor digits
    python -m experiments.attacks.backdoor cifar10 --data-dir DIR
    python -m experiments.attacks.backdoor tables

A share of the training images is given a trigger, a bright patch in a corner, and the label of the
target class. A network trained on them answers with that class wherever the trigger is. Then the
poisoned images are to be forgotten, all of them being known. Retrain, which never saw one, is the
target. Options of the methods are chosen by trials on another seed, without Retrain and without
triggered images. Writes `experiments/results/backdoor.json`, one part a setting; `tables` writes
them into `docs/results/attacks.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

import ltu_jax
import ltu_jax.unlearners as unlearners
from experiments.lib.provenance import ROOT, command_source
from experiments.lib.results_table import origin, replace_block
from ltu_jax.audit.measure import measure_model
from ltu_jax.audit.summary import with_gaps
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.data.arrays import validate
from ltu_jax.errors import DivergedError, InputError, InvariantError
from ltu_jax.files import write_json
from ltu_jax.report.content import label, number, plain
from ltu_jax.runs.models import REFERENCES, train_model, unlearn_model
from ltu_jax.runs.plan import Plan, make_plan, with_method
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.runs.tuning import select
from ltu_jax.types import Dataset, Triggered, Variables

RESULTS = ROOT / "experiments/results/backdoor.json"
PAGE = ROOT / "docs/results/attacks.md"
METHODS = ("ltu", "mi_match", "finetune", "neggrad_plus", "random_label", "scrub", "ssd")
SELECT_SEED = 100
COLUMNS = {"attack_success": "ASR", "ta": "TA", "ua": "UA", "ra": "RA", "avg_gap": "Avg. gap"}


@dataclass(frozen=True)
class Setting:
    """One data set, network and poison.

    Attributes:
      data: as for `ltu unlearn`.
      model: as for `ltu unlearn`.
      train_size: training examples; None takes all.
      patch: side of the trigger in pixels.
      share: of the training set that is poisoned.
      target: class that the trigger stands for.
      seeds: of poison and training.
      trials: options that each method tries; 0 takes the defaults.
      methods: whom to run.
    """

    data: str
    model: str
    train_size: int | None
    patch: int
    share: float = 0.05
    target: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    trials: int = 3
    methods: tuple[str, ...] = METHODS


SETTINGS = {
    "digits": Setting("digits", "mlp", None, patch=2),
    "cifar10": Setting("cifar10", "mlp", 5_000, patch=3),
}


@dataclass(frozen=True)
class Options:
    """Poison, train, unlearn, and measure how often the trigger succeeds.

    Attributes:
      name: which setting; tables writes the page from all results that there are.
      data_dir: folder in which TFDS keeps prepared data sets.
      quick: one seed, two methods with their defaults, into `runs/`; a test that all of it works.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10", "tables"]]
    data_dir: str | None = None
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Run one setting and write its results as they come, or write the page."""
    options = tyro.cli(Options, args=args)
    if options.name == "tables":
        write_page()
        return
    setting, out = SETTINGS[options.name], RESULTS
    if options.quick:
        setting = replace(setting, seeds=(0,), trials=0, methods=("finetune", "ssd"))
        out = Path("runs") / RESULTS.name
    keep_programs()
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    results[options.name] = {
        "config": vars(setting),
        "source": command_source(f"attacks.backdoor {options.name}"),
        "rows": [],
    }
    chosen = choose(setting, options.data_dir)
    for seed in setting.seeds:
        for row in rows(setting, seed, chosen, options.data_dir):
            results[options.name]["rows"].append(row)
            write_json(out, plain(results))
            said = row["failure"] or f"ASR {row['attack_success']:.1f}, TA {row['ta']:.1f}"
            print(f"seed {seed}, {row['method']}: {said}", flush=True)


def poisoned(setting: Setting, seed: int, data_dir: str | None) -> Dataset:
    """Return the data set with a trigger in a share of the training images of other classes."""
    clean = ltu_jax.load(setting.data, data_dir=data_dir, train_size=setting.train_size, seed=seed)
    inputs, labels = np.array(clean.train.inputs), np.array(clean.train.labels)
    others = np.flatnonzero(labels != setting.target)
    count = round(setting.share * len(labels))
    rows = np.random.default_rng(seed).choice(others, count, replace=False)
    inputs[rows] = stamped(inputs[rows], setting.patch)
    labels[rows] = setting.target
    test = clean.heldout.inputs[clean.heldout.labels != setting.target]
    return validate(
        clean._replace(
            name=f"{clean.name}-poisoned",
            train=ltu_jax.Examples(inputs, labels),
            groups={**clean.groups, "poisoned": np.isin(np.arange(len(labels)), rows)},
            triggered=Triggered(stamped(test, setting.patch), setting.target),
        )
    )


def stamped(images: np.ndarray, side: int) -> np.ndarray:
    """Return the images with a white square in the last corner."""
    images = np.array(images)
    images[:, -side:, -side:] = 255
    return images


def plan_for(setting: Setting, seed: int, data_dir: str | None) -> Plan:
    """Return the deletion of all poisoned examples."""
    dataset = poisoned(setting, seed, data_dir)
    request = ltu_jax.by_group("poisoned", True)
    spec = RunSpec(data=None, model=setting.model, method="nothing", seed=seed)
    return make_plan(spec, request, InMemory(dataset))


def choose(setting: Setting, data_dir: str | None) -> dict[str, Any]:
    """Return options for every method, by trials on a seed of their own."""
    if not setting.trials:
        return {name: unlearners.find(name).config for name in setting.methods}
    plan = plan_for(setting, SELECT_SEED, data_dir)
    original = train_model(plan, "original").variables
    chosen = {}
    for name in setting.methods:
        found = select(with_method(plan, name, None), original, trials=setting.trials)
        chosen[name] = unlearners.configure(unlearners.find(name), found.options)
        print(f"{name}: {found.options or 'defaults'}", flush=True)
    return chosen


def rows(setting: Setting, seed: int, chosen: Mapping[str, Any], data_dir: str | None):
    """Yield a row for each network of a seed, as each is made."""
    plan = plan_for(setting, seed, data_dir)
    networks = {name: train_model(plan, name) for name in ("original", *REFERENCES)}
    target = measure_model(plan.problem, "retrain", networks["retrain"]).row
    for name, network in networks.items():
        yield _row(seed, name, measure_model(plan.problem, name, network).row, target)
    for name in setting.methods:
        yield _unlearned(plan, seed, name, chosen[name], networks["original"].variables, target)


def _unlearned(plan, seed: int, name: str, config: Any, original: Variables, target):
    try:
        ready = with_method(plan, name, config)
        network, _ = unlearn_model(ready, original)
        return _row(seed, name, measure_model(ready.problem, name, network).row, target)
    except (DivergedError, InputError, InvariantError) as error:
        return {"seed": seed, "method": name, "failure": str(error)}


def _row(seed: int, name: str, row, target) -> dict[str, Any]:
    values = with_gaps([target, row])[-1]._asdict()
    del values["model"], values["gaps"]
    return {"seed": seed, "method": name, "failure": None, **values}


def write_page() -> None:
    """Write the tables of all results into `docs/results/attacks.md`."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_block(text, "backdoors", tables(results)), encoding="utf-8")


def tables(results: Mapping[str, Any]) -> str:
    """Return a table for every setting, methods by the distance of their ASR from Retrain's."""
    return "".join(_table(part) for part in results.values())


def _table(part: Mapping[str, Any]) -> str:
    config, found = part["config"], {}
    for row in part["rows"]:
        found.setdefault(row["method"], []).append(row)
    aim = _mean(found["retrain"], "attack_success")
    names = sorted(
        (name for name in found if name not in ("original", *REFERENCES)),
        key=lambda name: abs((_mean(found[name], "attack_success") or 1e9) - aim),
    )
    lines = [
        f"**{config['data']}, {config['model']}: {100 * config['share']:.0f} % of the training "
        f"images poisoned, {len({row['seed'] for row in part['rows']})} seeds**\n",
        "| network | " + " | ".join(COLUMNS.values()) + " | seconds |",
        "|:--|" + "--:|" * (len(COLUMNS) + 1),
    ]
    for name in ("original", *REFERENCES, *names):
        shown = label(name) if name in ("original", *REFERENCES) else f"`{name}`"
        cells = [_cell(found[name], key) for key in COLUMNS]
        lines.append(f"| {shown} | {' | '.join(cells)} | {number(_mean(found[name], 'seconds'))} |")
    return "\n".join(lines) + f"\n\n{origin([part['source']])}\n"


def _mean(found: list[Mapping[str, Any]], key: str) -> float | None:
    values = [row[key] for row in found if row["failure"] is None]
    return float(np.mean(values)) if values else None


def _cell(found: list[Mapping[str, Any]], key: str) -> str:
    values = [row[key] for row in found if row["failure"] is None]
    if not values:
        return "failed"
    spread = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return f"{number(np.mean(values))}{spread}"


if __name__ == "__main__":
    main()
