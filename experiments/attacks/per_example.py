"""Do methods withstand attacks on single examples, which none of them was trained against?

    python -m experiments.attacks.per_example digits
    python -m experiments.attacks.per_example cifar10 --data-dir DIR

For each method: U-LiRA, RMIA, one-run audits and KLoM on ensembles of models, compared with the
models before unlearning (what the attacks can find) and retrained ones (the noise floor). Options
are tuned without Retrain, on another seed. Ensembles are kept in `runs/ensembles`; repeating an
interrupted command resumes it. Writes `experiments/results/per_example_<name>.json`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

import ltu_jax.unlearners as unlearners
from experiments.lib.provenance import ROOT, command_source
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.data.request import by_fraction
from ltu_jax.errors import DivergedError
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.runs import ensembles
from ltu_jax.runs.audit import audit_ensembles
from ltu_jax.runs.models import train_model
from ltu_jax.runs.plan import Plan, make_plan, with_method
from ltu_jax.runs.progress import Progress
from ltu_jax.runs.spec import RunSpec
from ltu_jax.runs.tuning import select

METHODS = ("ltu", "ltu_joint", "random_label", "salun", "scrub", "finetune")
SELECT_SEED = 100


@dataclass(frozen=True)
class Setting:
    """One data set and model.

    Attributes:
      data: as for `ltu unlearn`.
      size: models a side.
      train_size: training examples; None takes all.
      model: as for `ltu unlearn`.
      trials: number of options that each method tries.
      methods: methods to audit; Retrain is always included.
    """

    data: str
    size: int
    train_size: int | None = None
    model: str = "mlp"
    trials: int = 8
    methods: tuple[str, ...] = METHODS


SETTINGS = {
    "digits": Setting("digits", 64, methods=(*METHODS, "mi_match")),
    "cifar10": Setting("cifar10", 16, train_size=5000, trials=4),
}


@dataclass(frozen=True)
class Options:
    """Make the ensembles that are missing, audit them, and write the results.

    Attributes:
      name: which setting.
      data_dir: folder of prepared TFDS data.
      quick: 8 models a side, 2 trials and one method; writes into `runs/`.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10"]]
    data_dir: str | None = None
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Audit every method and write the results as they come."""
    options = tyro.cli(Options, args=args)
    setting = SETTINGS[options.name]
    out = ROOT / f"experiments/results/per_example_{options.name}.json"
    if options.quick:
        setting = replace(setting, size=8, trials=2, methods=("random_label",))
        out = Path("runs") / out.name
    data_dir = " --data-dir DIR" if options.data_dir else ""  # no name of this machine's folders
    folder = Path("runs/ensembles")
    keep_programs(folder)
    results: dict[str, Any] = {
        "config": {**vars(setting), "retain_fraction": 0.3, "seed": 0},
        "source": command_source(f"attacks.per_example {options.name}{data_dir}"),
        "methods": {},
    }
    with Progress(None, quiet=True) as progress:
        for name in setting.methods:
            start = time.perf_counter()
            chosen = choose(setting, name, options.data_dir)
            plan = with_method(plan_for(setting, 0, options.data_dir), name, chosen)
            try:
                found = {
                    type_: ensembles.make_ensemble(plan, type_, setting.size, folder, progress)
                    for type_ in ensembles.TYPES
                }
                audit = audit_ensembles(plan, found, 0.05, lambda done: None)
            except DivergedError as error:
                audit = {"failure": str(error)}
            results["methods"][name] = {"options": chosen_options(name, chosen), **audit}
            write_json(out, plain(results))
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def plan_for(setting: Setting, seed: int, data_dir: str | None) -> Plan:
    """Return the deletion of a random tenth."""
    return make_plan(
        RunSpec(
            data=setting.data,
            data_dir=data_dir,
            train_size=setting.train_size,
            model=setting.model,
            method="nothing",
            seed=seed,
        ),
        by_fraction(0.1, seed=seed),
    )


def choose(setting: Setting, name: str, data_dir: str | None) -> Any:
    """Return options of a method, tuned on another seed without Retrain and kept on disk."""
    about = f"{setting.data}-{setting.train_size}-{setting.model}-{setting.trials}-{name}"
    path = Path("runs/per_example") / f"{about}.json"
    method = unlearners.find(name)
    if not path.exists():
        plan = with_method(plan_for(setting, SELECT_SEED, data_dir), name, None)
        original = train_model(plan, "original").variables
        chosen = select(plan, original, trials=setting.trials).describe()
        write_json(path, plain(chosen))
    values = json.loads(path.read_text(encoding="utf-8"))["options"]
    return unlearners.configure(method, values)


def chosen_options(name: str, config: Any) -> dict[str, Any]:
    """Return the options that are not the method's defaults."""
    default = unlearners.find(name).config
    return {key: value for key, value in vars(config).items() if value != getattr(default, key)}


if __name__ == "__main__":
    main()
