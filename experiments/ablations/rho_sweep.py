"""How much of the remaining data does unlearning need?

    python -m experiments.ablations.rho_sweep
    python -m experiments.ablations.rho_sweep --quick

The first open question of the paper: the gap to Retrain against rho, the share of the retain set
that a method may see, for LTU, its control and two baselines on a random 10 % of digits (`mlp`).
The options of the baselines were tuned without Retrain at rho = 0.3. Writes
`experiments/results/rho_sweep.json` and `docs/rho_sweep.png`; ten minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.comparison.claims import tuned
from experiments.lib import study, tables
from experiments.lib.settings import DIGITS, LTU, QUICK
from ltu_jax.runs.comparison.jobs import Job, Variant, variant

SHARES = (0.05, 0.1, 0.3, 0.6, 0.9)
BASELINES = ("random_label", "finetune")
SEEDS = (0, 1, 2)
REFERENCES = tuple(map(variant, ("retrain", "retrain_2")))


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("rho_sweep", compute, draw=draw, render=tables.rho, args=args)


def methods() -> dict[str, Variant]:
    """Return the methods, with their options."""
    ours = {name: LTU[name] for name in ("LTU", "without both (mi_match)")}
    return {**ours, **tuned(BASELINES)}


def compute(options: study.Options) -> dict[str, Any]:
    """Return the metrics by method and share."""
    # The models do not depend on rho, but the metrics do.
    if options.quick:
        grid, variants, seeds = (QUICK, (0.3, 0.9)), (*REFERENCES, variant("finetune")), (0,)
    else:
        grid, variants, seeds = (DIGITS, SHARES), (*REFERENCES, *methods().values()), SEEDS
    results = study.results_of(
        [
            Job(grid[0]._replace(retain_fraction=share), one, seed)
            for share in grid[1]
            for one in variants
            for seed in seeds
        ],
        options,
    )
    names = {one: name for name, one in methods().items()}
    by_method: dict[str, dict[str, Any]] = {}
    for job in results:
        name = names.get(job.variant, job.variant.method)
        share = f"{job.setting.retain_fraction:g}"
        by_method.setdefault(name, {})[share] = study.summary(results, study.same(results, job))
    return {
        "source": study.source("ablations.rho_sweep", results.values()),
        "config": {"seeds": list(seeds), "shares": list(SHARES)},
        "methods": by_method,
    }


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of gap and AUC against rho."""
    import matplotlib.pyplot as plt

    found = results["methods"]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for name in ("retrain_2", *methods()):
        shares = sorted(found.get(name, {}), key=float)
        style = {"color": "k", "ls": "--"} if name == "retrain_2" else {"marker": "o", "ms": 3}
        for panel, metric in zip(panels, ("gap", "auc"), strict=True):
            means = [found[name][share][metric][0] for share in shares]
            panel.plot([float(share) for share in shares], means, label=name, lw=1.2, **style)
    panels[0].set(xlabel="rho", ylabel="average gap to Retrain, points", ylim=(0, None))
    panels[1].set(xlabel="rho", ylabel="AUC of the loss attack, %")
    panels[1].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
