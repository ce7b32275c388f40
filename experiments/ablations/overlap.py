"""Is it harder to forget examples that resemble retained ones?

    python -m experiments.ablations.overlap
    python -m experiments.ablations.overlap --quick

The third open question of the paper. Forget sets of 5 % of digits (`mlp`), from outlying to
entangled: outliers, hard examples, random ones, half of a class, a neighbourhood, one of each pair
of nearest neighbours. Reported for each: overlap score, gap to Retrain, AUC of the attacks, and
how often the gradients of remembering and forgetting conflict. The options of the baselines were
tuned on a random 10 %. Writes `experiments/results/overlap.json` and `docs/overlap.png`; ten
minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.comparison.claims import tuned
from experiments.lib import study, tables
from experiments.lib.forget_sets import FORGET_SETS, overlap
from experiments.lib.settings import DIGITS, LTU, QUICK
from ltu_jax.report.comparison.table import interval
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Result, Variant, variant
from ltu_jax.training.supervised import predict

SETS = ("random_5", "doubles", "neighbourhood", "half_a_class", "hard", "outliers")
SEEDS = (0, 1, 2)


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("overlap", compute, draw=draw, render=tables.overlaps, args=args)


def methods() -> dict[str, Variant]:
    """Return the methods, with their options."""
    names = ("LTU", "calibrated", "without both (mi_match)")
    return {**{name: LTU[name] for name in names}, **tuned(("random_label",))}


def compute(options: study.Options) -> dict[str, Any]:
    """Return by forget set its overlap score and the metrics of each method."""
    quick = options.quick
    variants = [variant("finetune")] if quick else list(methods().values())
    results = study.results_of(
        [
            Job((QUICK if quick else DIGITS)._replace(forget=name), one, seed)
            for name in (SETS[:2] if quick else SETS)
            for one in (*study.REFERENCES, *variants)
            for seed in ((0,) if quick else SEEDS)
        ],
        options,
    )
    return {
        "source": study.source("ablations.overlap", results.values()),
        "sets": collect(results),
    }


def collect(results: Mapping[Job, Result]) -> dict[str, Any]:
    """Return the overlap scores and metrics by forget set."""
    names = {one: name for name, one in methods().items()}
    by_set: dict[str, Any] = {}
    for setting in dict.fromkeys(job.setting for job in results):
        here = [job for job in results if job.setting == setting]
        seeds = sorted({job.seed for job in here})
        by_set[setting.forget] = {
            "title": FORGET_SETS[setting.forget].title,
            "overlap": interval([score(setting, seed) for seed in seeds]),
            "methods": {
                names.get(job.variant, job.variant.method): {
                    **study.summary(results, jobs := study.same(here, job)),
                    "conflicts": [results[one]["conflicts"] for one in jobs],
                }
                for job in here
                if job.seed == seeds[0]
            },
        }
    return by_set


def score(setting: Setting, seed: int) -> float:
    """Return the overlap score of the setting's forget set."""
    bench = study.bench(setting, seed)
    train = bench.plan.dataset.train
    outputs = predict(bench.plan.model, bench.model("original").variables, train.inputs)
    return overlap(np.asarray(outputs), train.labels, bench.plan.split.forget)


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of gaps, loss attack and conflicts against the overlap score."""
    import matplotlib.pyplot as plt

    found = results["sets"]
    order = sorted(found, key=lambda name: found[name]["overlap"][0])
    at = np.arange(len(order))
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    for name in ("retrain_2", *methods()):
        by_set = [found[one]["methods"].get(name) for one in order]
        style = {"color": "k", "ls": "--"} if name == "retrain_2" else {"marker": "o", "ms": 3}
        gaps = [one["gap"][0] if one else np.nan for one in by_set]
        panels[0].plot(at, gaps, label=name, lw=1.2, **style)
        retrain = [found[one]["methods"]["retrain"]["auc"][0] for one in order]
        pairs = zip(by_set, retrain, strict=True)
        panels[1].plot(
            at, [one["auc"][0] - r if one else np.nan for one, r in pairs], lw=1.2, **style
        )
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
    return figure


if __name__ == "__main__":
    main()
