"""How little may a deletion cost?

    python -m experiments.ablations.budget --data-dir DIR
    python -m experiments.ablations.budget --quick

The gap to Retrain against the work of a deletion: LTU, LTU of first order and the control without
the meta scheme, with 30 to 300 steps. A shorter run takes longer steps: for each, the learning rate
is that of four whose mean gap is smallest on two seeds that the table does not report. Work is
counted in forward passes over one image, relative to retraining from scratch
(`experiments.performance.benchmark` measures times). CIFAR-10, 5,000 images, `mlp`, a random 10 %.
Writes `experiments/results/budget.json` and `docs/budget.png`; a quarter of an hour on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.lib import study
from experiments.lib.provenance import ROOT
from experiments.lib.settings import PRIMARY, QUICK
from experiments.lib.study import Job, Setting, variant
from experiments.performance.counting import GRADIENT, Images, ltu_units
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.training.supervised import recipe_for
from ltu_jax.unlearners.ltu.config import LTUConfig

OUT = ROOT / "experiments/results/budget.json"
FIGURE = ROOT / "docs/budget.png"
METHODS = ("ltu", "ltu_first_order", "mi_match")
STEPS = (30, 60, 120, 300)
LEARNING_RATES = (0.02, 0.04, 0.08, 0.16)
CHOOSING, REPORTED = (10, 11), (0, 1, 2)
REFERENCES = ("original", "retrain", "retrain_2")


@dataclass(frozen=True)
class Options:
    """Make the rows that are missing, choose learning rates, collect and draw.

    Attributes:
      data_dir: folder in which TFDS keeps prepared data sets.
      quick: digits, one method, few steps, into `runs/`: a test that all of it works.
    """

    data_dir: str | None = None
    quick: bool = False


@dataclass(frozen=True)
class Plan:
    """What is compared; see the constants."""

    setting: Setting = PRIMARY
    methods: tuple[str, ...] = METHODS
    steps: tuple[int, ...] = STEPS
    learning_rates: tuple[float, ...] = LEARNING_RATES
    choosing: tuple[int, ...] = CHOOSING
    reported: tuple[int, ...] = REPORTED


_QUICK = Plan(QUICK, ("mi_match",), (5, 10), (0.02, 0.04), (1,), (0,))


def main(args: list[str] | None = None) -> None:
    """Run, write, draw."""
    options = tyro.cli(Options, args=args)
    plan = _QUICK if options.quick else Plan()
    results = compare(plan, options.data_dir)
    write_json(Path("runs/budget.json") if options.quick else OUT, plain(results))
    if not options.quick:
        draw(results, FIGURE)
    for row in results["rows"]:
        print(
            f"{row['method']}, {row['steps']} steps at {row['learning_rate']}: "
            f"work {row['work']:.2f}, gap {row['gap'][0]:.1f}"
        )


def compare(plan: Plan, data_dir: str | None) -> dict[str, Any]:
    """Return the rows: for each method and number of steps, at the chosen learning rate."""
    rows: dict[Job, study.Row] = {}

    def run(variants: list[study.Variant], seeds: tuple[int, ...]) -> None:
        jobs = [Job(plan.setting, one, seed) for one in variants for seed in seeds]
        made = study.run(jobs, data_dir=data_dir, workers=study.workers_here())
        rows.update({job: made[study.key(job)] for job in jobs})

    def cell(one: study.Variant, seeds: tuple[int, ...]) -> study.Row:
        return study.cell(rows, [Job(plan.setting, one, seed) for seed in seeds])

    grid = {
        (method, steps): [
            variant(method, steps=steps, learning_rate=rate) for rate in plan.learning_rates
        ]
        for method in plan.methods
        for steps in plan.steps
    }
    run([variant("retrain")], plan.choosing)
    run([one for ones in grid.values() for one in ones], plan.choosing)
    chosen = {
        of: min((one for one in ones if survived(one, plan, rows)),
                key=lambda one: cell(one, plan.choosing)["gap"][0])
        for of, ones in grid.items()
    }  # fmt: skip
    run([*map(variant, REFERENCES), *chosen.values()], plan.reported)
    retained = len(study.bench(plan.setting, plan.reported[0], data_dir).plan.split.retain)
    return {
        "source": study.source("experiments.ablations.budget --data-dir DIR", rows.values()),
        "config": {
            "setting": plan.setting._asdict(),
            "learning_rates": plan.learning_rates,
            "seeds_for_choosing": plan.choosing,
        },
        "rows": [
            {
                "method": method,
                **study.options_of(one),
                "work": work(method, steps, plan.setting, retained),
                **cell(one, plan.reported),
            }
            for (method, steps), one in chosen.items()
        ],
        "references": {name: cell(variant(name), plan.reported) for name in REFERENCES},
    }


def survived(one: study.Variant, plan: Plan, rows: Mapping[Job, study.Row]) -> bool:
    """Whether no seed of those that choose diverged."""
    jobs = [Job(plan.setting, one, seed) for seed in plan.choosing]
    return all(rows[job]["failure"] is None for job in jobs)


def work(method: str, steps: int, setting: Setting, retained: int) -> float:
    """Return the work of a deletion over that of training anew on the `retained` examples."""
    config = LTUConfig()
    queries = len(config.query_sampling) * config.query_size
    images = Images(config.support_size, config.audit_size, queries)
    if method == "mi_match":
        step = GRADIENT * (images.audit + images.queries)
    else:
        step = sum(ltu_units(images, 2 if method == "ltu" else 1, has_statistics=False).values())
    epochs = setting.epochs or recipe_for(setting.model).epochs
    return steps * step / (GRADIENT * epochs * retained)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the gap and the loss attack's AUC against the work."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for method in METHODS:
        rows = [row for row in results["rows"] if row["method"] == method]
        for panel, measure in zip(panels, ("gap", "auc"), strict=True):
            means, lows, highs = np.array([row[measure] for row in rows]).T
            bars = np.maximum([means - lows, highs - means], 0)
            at = [row["work"] for row in rows]
            panel.errorbar(at, means, bars, label=method, marker="o", ms=3, lw=1.2, capsize=2)
    for panel, measure in zip(panels, ("gap", "auc"), strict=True):
        for name, style in (("original", ":"), ("retrain_2", "--")):
            value = results["references"][name][measure][0]
            panel.axhline(value, color="k", ls=style, lw=1, label=name)
        panel.set(xscale="log", xlabel="work over that of training anew")
    panels[0].set(ylabel="average gap to Retrain, points", ylim=(0, None))
    panels[1].set(ylabel="AUC of the loss attack, %")
    panels[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
