"""How do methods compare? The comparisons of the README: methods, scenarios and seeds.

    python -m experiments.comparison.compare digits
    python -m experiments.comparison.compare cifar10 --data-dir DIR

Results go into `runs/compare_<name>/` one by one; an interrupted command continues when repeated,
and one command per scenario may run at a time. They are collected in
`experiments/results/compare_<name>.json`, which also supplies results: `--methods` adds other
methods, `--afresh` ignores the file. Use `ltu compare` for other comparisons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.lib.provenance import ROOT, command_source
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.files import write_json
from ltu_jax.report import comparison as report
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.compare import collect, result_path, run
from ltu_jax.runs.comparison.jobs import Job, Variant
from ltu_jax.runs.comparison.options import Comparison

RUNS = Path("runs")
COMPARISONS = {
    "digits": Comparison(
        out=RUNS / "compare_digits",
        data="digits",
        model="mlp",
        scenarios=("random_10", "random_50", "class", "subclass"),
        train_seeds=(0, 1, 2, 3, 4),
        trials=8,
    ),
    "cifar10": Comparison(
        out=RUNS / "compare_cifar10",
        data="cifar10",
        train_size=10_000,
        model="cnn",
        methods=(
            "finetune",
            "gradient_ascent",
            "neggrad_plus",
            "random_label",
            "salun",
            "l1_sparse",
            "scrub",
            "bad_teacher",
            "ssd",
            "msg",
            "mi_match",
            "ltu",
        ),
        scenarios=("random_10", "class"),
        train_seeds=(0, 1, 2),
        trials=6,
    ),
}


@dataclass(frozen=True)
class Options:
    """Make the missing results of a comparison, and collect all of them.

    Attributes:
      name: comparison.
      data_dir: folder of prepared TFDS data.
      scenarios: scenarios to run; by default all.
      methods: methods to run; by default all of the comparison.
      gather: collect the results that exist; make none.
      afresh: repeat also the results that the result file holds.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10"]]
    data_dir: str | None = None
    scenarios: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    gather: bool = False
    afresh: bool = False


def main(args: list[str] | None = None) -> None:
    """Make the missing results and write the result file."""
    options = tyro.cli(Options, args=args)
    whole = COMPARISONS[options.name]
    out = ROOT / f"experiments/results/compare_{options.name}.json"
    comparison = replace(
        whole,
        data_dir=options.data_dir,
        scenarios=options.scenarios or whole.scenarios,
        methods=options.methods or whole.methods,
    )
    # Names no folder of this machine.
    command = f"comparison.compare {options.name}" + (" --data-dir DIR" if options.data_dir else "")
    if out.exists() and not options.afresh:
        restore(json.loads(out.read_text(encoding="utf-8")), whole.out)
    if options.gather:
        results = collect(whole)
    else:
        keep_programs(comparison.cache)
        results = run(comparison, source=command_source(command), say=partial(print, flush=True))
    report.write(results, comparison.out)
    write_json(out, results)


def restore(results: Mapping[str, Any], folder: Path) -> None:
    """Write the results and choices of a result file into a comparison's folder; overwrite none."""
    tuning = results["tuning"].items()
    files = {folder / "tuning" / f"{name}.json": chosen for name, chosen in tuning}
    for entry in results["rows"]:
        setting = Setting(forget=entry["scenario"])
        job = Job(setting, Variant(entry["method"]), entry["train_seed"], entry["unlearn_seed"])
        source = results["sources"][entry["source"]]
        files[result_path(folder, job)] = {**entry, "source": source}
    for path, content in files.items():
        if not path.exists():
            write_json(path, content)


if __name__ == "__main__":
    main()
