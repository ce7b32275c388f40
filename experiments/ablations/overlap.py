"""Is it harder to forget what resembles what is kept?

    python -m experiments.ablations.overlap
    python -m experiments.ablations.overlap --quick

The third open question of the paper. Forget sets of 5 % of digits (`mlp`), from alien to entangled:
outliers, hard examples, random ones, half of a class, a neighbourhood, one of each pair of nearest
neighbours; for each its overlap score, the gap to Retrain, the attacks' AUC beside Retrain's, and
how often remembering and forgetting conflict. Baselines have the options chosen for a random 10 %.
Writes `experiments/results/overlap.json` and `docs/overlap.png`; ten minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.comparison.claims import tuned
from experiments.lib import study
from experiments.lib.forget_sets import FORGET_SETS, overlap
from experiments.lib.provenance import ROOT
from experiments.lib.settings import DIGITS, LTU, QUICK
from experiments.lib.study import Job, variant
from ltu_jax.files import write_json
from ltu_jax.report.content import plain

OUT = ROOT / "experiments/results/overlap.json"
FIGURE = ROOT / "docs/overlap.png"
SETS = ("random_5", "doubles", "neighbourhood", "half_a_class", "hard", "outliers")
SEEDS = (0, 1, 2)
REFERENCES = ("original", "retrain", "retrain_2")


@dataclass(frozen=True)
class Options:
    """Make the rows that are missing, collect and draw them.

    Attributes:
      quick: digits, two sets, one seed, into `runs/`: a test that all of it works.
      gather: collect what is there without making anything.
    """

    quick: bool = False
    gather: bool = False


def main(args: list[str] | None = None) -> None:
    """Run, write, draw."""
    options = tyro.cli(Options, args=args)
    wanted = quick_jobs() if options.quick else jobs()
    rows = study.rows_of(wanted, gather=options.gather)
    results = {
        "source": study.source("experiments.ablations.overlap", rows.values()),
        "sets": collect(rows),
    }
    write_json(Path("runs/overlap.json") if options.quick else OUT, plain(results))
    if not options.quick:
        draw(results["sets"], FIGURE)
    for name, one in results["sets"].items():
        gaps = {method: round(value["gap"][0], 1) for method, value in one["methods"].items()}
        print(f"{name}: overlap {one['overlap'][0]:.2f}, gaps {gaps}")


def methods() -> dict[str, study.Variant]:
    """Return the methods, with their options."""
    names = ("LTU", "calibrated", "without both (mi_match)")
    return {**{name: LTU[name] for name in names}, **tuned(("random_label",))}


def jobs() -> list[Job]:
    """Return all jobs."""
    variants = [*map(variant, REFERENCES), *methods().values()]
    return [
        Job(DIGITS._replace(forget=name), one, seed)
        for name in SETS
        for one in variants
        for seed in SEEDS
    ]


def quick_jobs() -> list[Job]:
    """Return the jobs of a quick run."""
    variants = [*map(variant, REFERENCES), variant("finetune")]
    return [Job(QUICK._replace(forget=name), one, 0) for name in SETS[:2] for one in variants]


def collect(rows: Mapping[Job, study.Row]) -> dict[str, Any]:
    """Return by forget set its overlap score and what is measured of each method."""
    names = {one: name for name, one in methods().items()}
    found: dict[str, Any] = {}
    for setting in dict.fromkeys(job.setting for job in rows):
        here = {job: row for job, row in rows.items() if job.setting == setting}
        seeds = sorted({job.seed for job in here})
        found[setting.forget] = {
            "title": FORGET_SETS[setting.forget].title,
            "overlap": study.interval([score(setting, seed) for seed in seeds]),
            "methods": {
                names.get(one, one.method): {
                    **study.cell(here, same := [job for job in here if job.variant == one]),
                    "conflicts": [here[job]["conflicts"] for job in same],
                }
                for one in dict.fromkeys(job.variant for job in here)
            },
        }
    return found


def score(setting: study.Setting, seed: int) -> float:
    """Return the overlap score of the setting's forget set."""
    from ltu_jax.training.supervised import predict

    bench = study.bench(setting, seed, None)
    train = bench.plan.dataset.train
    outputs = predict(bench.plan.model, bench.network("original").variables, train.inputs)
    return overlap(np.asarray(outputs), train.labels, bench.plan.split.forget)


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw gaps, the loss attack and conflicts against the overlap score."""
    import matplotlib.pyplot as plt

    order = sorted(found, key=lambda name: found[name]["overlap"][0])
    at = np.arange(len(order))
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    for name in ("retrain_2", *methods()):
        cells = [found[one]["methods"].get(name) for one in order]
        style = {"color": "k", "ls": "--"} if name == "retrain_2" else {"marker": "o", "ms": 3}
        gaps = [cell["gap"][0] if cell else np.nan for cell in cells]
        panels[0].plot(at, gaps, label=name, lw=1.2, **style)
        retrain = [found[one]["methods"]["retrain"]["auc"][0] for one in order]
        far = [cell["auc"][0] - r if cell else np.nan for cell, r in zip(cells, retrain)]  # noqa: B905
        panels[1].plot(at, far, lw=1.2, **style)
    shares = [
        np.mean([c["share"] for c in found[one]["methods"]["LTU"]["conflicts"]]) for one in order
    ]
    panels[2].bar(at, shares, color="C0")
    ticks = [f"{found[one]['title']}\n({found[one]['overlap'][0]:.2f})" for one in order]
    titles = ("average gap to Retrain", "loss attack's AUC, less Retrain's", "conflicts of LTU, %")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xticks(at, ticks, rotation=60, ha="right", fontsize=6)
        panel.set_title(title, fontsize=9)
    panels[0].legend(frameon=False, fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
