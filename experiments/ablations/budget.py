"""How few steps does a deletion need?

    python -m experiments.ablations.budget --data-dir DIR
    python -m experiments.ablations.budget --quick

The gap to Retrain against the work of a deletion: LTU, LTU of first order and the control without
the meta scheme, with 30 to 300 steps. Shorter runs need larger steps: of four learning rates, each
run has the one of the smallest mean gap on two seeds that the table does not report. Work is
counted in forward passes over one image, relative to retraining from scratch
(`experiments.performance.benchmark` measures times). CIFAR-10, 5,000 images, `mlp`, a random 10 %.
Writes `experiments/results/budget.json` and `docs/budget.png`; a quarter of an hour on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.lib import study, tables
from experiments.lib.settings import PRIMARY, QUICK
from experiments.performance.counting import GRADIENT, Images, ltu_units
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Result, Variant, variant
from ltu_jax.training.supervised import recipe_for
from ltu_jax.unlearners.ltu.config import LTUConfig

METHODS = ("ltu", "ltu_first_order", "mi_match")
STEPS = (30, 60, 120, 300)
LEARNING_RATES = (0.02, 0.04, 0.08, 0.16)
CHOOSING, REPORTED = (10, 11), (0, 1, 2)


@dataclass(frozen=True)
class Plan:
    """Grid of the experiment; see the constants."""

    setting: Setting = PRIMARY
    methods: tuple[str, ...] = METHODS
    steps: tuple[int, ...] = STEPS
    learning_rates: tuple[float, ...] = LEARNING_RATES
    choosing: tuple[int, ...] = CHOOSING
    reported: tuple[int, ...] = REPORTED


QUICK_PLAN = Plan(QUICK, ("mi_match",), (5, 10), (0.02, 0.04), (1,), (0,))


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("budget", compute, draw=draw, render=tables.budget, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return the metrics of each method and number of steps, at the chosen learning rate."""
    plan, results = QUICK_PLAN if options.quick else Plan(), {}

    def run(variants: Sequence[Variant], seeds: tuple[int, ...]) -> None:
        jobs = [Job(plan.setting, one, seed) for one in variants for seed in seeds]
        results.update(study.results_of(jobs, options))

    def summary(one: Variant, seeds: tuple[int, ...]) -> Result:
        return study.summary(results, [Job(plan.setting, one, seed) for seed in seeds])

    grid = {
        (method, steps): [
            variant(method, steps=steps, learning_rate=rate) for rate in plan.learning_rates
        ]
        for method in plan.methods
        for steps in plan.steps
    }
    run([one for ones in grid.values() for one in ones], plan.choosing)
    chosen = {
        of: min(
            (one for one in ones if survived(one, plan, results)),
            key=lambda one: summary(one, plan.choosing)["gap"].mean,
        )
        for of, ones in grid.items()
    }
    run([*study.REFERENCES, *chosen.values()], plan.reported)
    bench = study.bench(plan.setting, plan.reported[0], options.data_dir)
    retained = len(bench.plan.split.retain)
    return {
        "source": study.source("ablations.budget --data-dir DIR", results.values()),
        "config": {
            "setting": plan.setting._asdict(),
            "learning_rates": plan.learning_rates,
            "seeds_for_choosing": plan.choosing,
        },
        "rows": [
            {
                "method": method,
                **Job(plan.setting, one, 0).options,
                "work": work(method, steps, plan.setting, retained),
                **summary(one, plan.reported),
            }
            for (method, steps), one in chosen.items()
        ],
        "references": {one.method: summary(one, plan.reported) for one in study.REFERENCES},
    }


def survived(one: Variant, plan: Plan, results: Mapping[Job, Result]) -> bool:
    """Whether no seed of those that choose diverged."""
    jobs = [Job(plan.setting, one, seed) for seed in plan.choosing]
    return all(results[job]["failure"] is None for job in jobs)


def work(method: str, steps: int, setting: Setting, retained: int) -> float:
    """Return the work of a deletion relative to retraining on the `retained` examples."""
    config = LTUConfig()
    queries = len(config.query_sampling) * config.query_size
    images = Images(config.support_size, config.audit_size, queries)
    if method == "mi_match":
        step = GRADIENT * (images.audit + images.queries)
    else:
        step = sum(ltu_units(images, 2 if method == "ltu" else 1, has_statistics=False).values())
    epochs = setting.epochs or recipe_for(setting.model).epochs
    return steps * step / (GRADIENT * epochs * retained)


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of the gap and the loss attack's AUC against the work."""
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
        panel.set(xscale="log", xlabel="work relative to retraining")
    panels[0].set(ylabel="average gap to Retrain, points", ylim=(0, None))
    panels[1].set(ylabel="AUC of the loss attack, %")
    panels[0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
