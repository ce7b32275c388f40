"""Does unlearning remove a backdoor, when the poisoned examples are known?

    python -m experiments.attacks.backdoor digits
    python -m experiments.attacks.backdoor cifar10 --data-dir DIR

A share of the training images gets a trigger, a bright patch in a corner, and the label of the
target class. A model trained on them predicts that class wherever the trigger is. Then all poisoned
images are to be forgotten. The target is Retrain, which never saw one. The options of the methods
are tuned on another seed, without Retrain and without triggered images. Writes
`experiments/results/backdoor.json`, one part per setting; an hour on two cores.
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
from ltu_jax.audit.measure import measure_model
from ltu_jax.audit.summary import with_gaps
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.data.arrays import validate
from ltu_jax.errors import DivergedError, InputError, InvariantError
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.runs.models import REFERENCES, train_model, unlearn_model
from ltu_jax.runs.plan import Plan, make_plan, with_method
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.runs.tuning import select
from ltu_jax.types import Dataset, Triggered, Variables

RESULTS = ROOT / "experiments/results/backdoor.json"
METHODS = ("ltu", "mi_match", "finetune", "neggrad_plus", "random_label", "scrub", "ssd")
SELECT_SEED = 100


@dataclass(frozen=True)
class Setting:
    """One data set, model and poison.

    Attributes:
      data: data set, as for `ltu unlearn`.
      model: model, as for `ltu unlearn`.
      train_size: number of training examples; None takes all.
      patch: side of the trigger in pixels.
      share: share of the training set that is poisoned.
      target: class of the trigger.
      seeds: seeds of poison and training.
      trials: number of options that each method tries; 0 takes the defaults.
      methods: methods to run.
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
      name: setting.
      data_dir: folder of prepared TFDS data.
      quick: one seed and two methods with their defaults; writes into `runs/`.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10"]]
    data_dir: str | None = None
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Run one setting and write its results after each model."""
    options = tyro.cli(Options, args=args)
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
            result = row["failure"] or f"ASR {row['attack_success']:.1f}, TA {row['ta']:.1f}"
            print(f"seed {seed}, {row['method']}: {result}", flush=True)


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
    """Return options for every method, tuned on another seed."""
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
    """Yield the result of each model of a seed."""
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


if __name__ == "__main__":
    main()
