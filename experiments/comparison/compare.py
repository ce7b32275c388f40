"""The README's comparisons: methods x scenarios x seeds, with the settings that made the tables.

    python -m experiments.comparison.compare digits
    python -m experiments.comparison.compare cifar10 --data-dir DIR

Everything goes into `runs/compare_<name>/` row by row; an interrupted command goes on when it is
given again, and one command for each scenario may run at a time. Everything is collected in
`experiments/results/compare_<name>.json`, whose rows are not made again: `--methods` adds rows of
other methods, `--anew` does not take them up. For a comparison of your own use `ltu compare`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.lib.provenance import ROOT, git_state
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.files import write_json
from ltu_jax.report.comparison import write as report
from ltu_jax.report.write import versions
from ltu_jax.runs.comparison import grid
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
    """Make the runs of a comparison that are missing, and collect all of them.

    Attributes:
      name: which comparison.
      data_dir: folder in which TFDS keeps prepared data sets.
      scenarios: only these, so that other commands can make the others; by default all.
      methods: only these; by default all of the comparison.
      gather: collect what is there without making anything.
      anew: make also those rows that the result file holds.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10"]]
    data_dir: str | None = None
    scenarios: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    gather: bool = False
    anew: bool = False


def main(args: list[str] | None = None) -> None:
    """Make what is missing and write the result file."""
    options = tyro.cli(Options, args=args)
    whole = COMPARISONS[options.name]
    out = ROOT / f"experiments/results/compare_{options.name}.json"
    comparison = replace(
        whole,
        data_dir=options.data_dir,
        scenarios=options.scenarios or whole.scenarios,
        methods=options.methods or whole.methods,
    )
    words = ["python", "-m", "experiments.comparison.compare", options.name]
    words += ["--data-dir", "DIR"] if options.data_dir else []  # no name of this machine's folders
    if out.exists() and not options.anew:
        restore(json.loads(out.read_text(encoding="utf-8")), whole.out)
    source = {"command": shlex.join(words), "git": git_state(), "versions": versions()}
    if options.gather:
        results = grid.gather(whole)
    else:
        keep_programs(comparison.cache)
        results = grid.run(comparison, source=source, say=lambda line: print(line, flush=True))
    report.write(results, comparison.out)
    write_json(out, results)


def restore(results: Mapping[str, Any], folder: Path) -> None:
    """Write a result file's rows and choices back into a comparison's folder, over none there."""
    tuning = results["tuning"].items()
    files = {folder / "tuning" / f"{name}.json": chosen for name, chosen in tuning}
    for entry in results["rows"]:
        row = {name: value for name, value in entry.items() if name != "source"}
        path = grid.row_path(
            folder, row["scenario"], row["train_seed"], row["unlearn_seed"], row["method"]
        )
        files[path] = {"row": row, "source": results["sources"][entry["source"]]}
    for path, content in files.items():
        if not path.exists():
            write_json(path, content)


if __name__ == "__main__":
    main()
