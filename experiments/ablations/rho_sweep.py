"""How much of the remaining data does unlearning need?

    python -m experiments.ablations.rho_sweep
    python -m experiments.ablations.rho_sweep --quick

The first open question of the paper. The gap to Retrain against rho, the share of the retain set
that a method may see, for LTU, its control and two baselines, on a random 10 % of
digits (`mlp`). Baselines have the options that trials without Retrain chose at rho = 0.3. Writes
`experiments/results/rho_sweep.json` and `docs/rho_sweep.png`; ten minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.comparison.claims import tuned
from experiments.lib import study
from experiments.lib.provenance import ROOT
from experiments.lib.settings import DIGITS, LTU, QUICK
from experiments.lib.study import Job, variant
from ltu_jax.files import write_json
from ltu_jax.report.content import plain

OUT = ROOT / "experiments/results/rho_sweep.json"
FIGURE = ROOT / "docs/rho_sweep.png"
SHARES = (0.05, 0.1, 0.3, 0.6, 0.9)
BASELINES = ("random_label", "finetune")
SEEDS = (0, 1, 2)
REFERENCES = ("retrain", "retrain_2")


@dataclass(frozen=True)
class Options:
    """Make the rows that are missing, collect and draw them.

    Attributes:
      quick: digits, two shares, one seed, into `runs/`: a test that all of it works.
      gather: collect what is there without making anything.
    """

    quick: bool = False
    gather: bool = False


def main(args: list[str] | None = None) -> None:
    """Run, write, draw."""
    options = tyro.cli(Options, args=args)
    wanted = quick_jobs() if options.quick else jobs()
    out = Path("runs/rho_sweep.json") if options.quick else OUT
    results = collect(study.rows_of(wanted, gather=options.gather))
    write_json(out, plain(results))
    if not options.quick:
        draw(results["methods"], FIGURE)
    for name, by_share in results["methods"].items():
        print(name, {share: round(cell["gap"][0], 1) for share, cell in by_share.items()})


def methods() -> dict[str, study.Variant]:
    """Return the methods, with their options."""
    ours = {name: LTU[name] for name in ("LTU", "without both (mi_match)")}
    return {**ours, **tuned(BASELINES)}


def jobs() -> list[Job]:
    """Return all jobs; the networks do not depend on rho, but what is measured of them does."""
    variants = [*map(variant, REFERENCES), *methods().values()]
    return [
        Job(DIGITS._replace(retain_fraction=share), one, seed)
        for share in SHARES
        for one in variants
        for seed in SEEDS
    ]


def quick_jobs() -> list[Job]:
    """Return the jobs of a quick run."""
    variants = [*map(variant, REFERENCES), variant("finetune")]
    shares = (0.3, 0.9)
    return [Job(QUICK._replace(retain_fraction=rho), one, 0) for rho in shares for one in variants]


def collect(rows: Mapping[Job, study.Row]) -> dict[str, Any]:
    """Return by method and share the gap, the loss attack's AUC and the accuracies."""
    names = {one: name for name, one in methods().items()}
    names |= {variant(name): name for name in REFERENCES}
    found: dict[str, dict[str, Any]] = {}
    for job in rows:
        name = names.get(job.variant, job.variant.method)
        share = f"{job.setting.retain_fraction:g}"
        same = [j for j in rows if (j.setting, j.variant) == (job.setting, job.variant)]
        found.setdefault(name, {})[share] = study.cell(rows, same)
    return {
        "source": study.source("experiments.ablations.rho_sweep", rows.values()),
        "config": {"seeds": sorted({job.seed for job in rows}), "shares": list(SHARES)},
        "methods": found,
    }


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw gap and AUC against rho."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for name in ("retrain_2", *methods()):
        shares = sorted(found.get(name, {}), key=float)
        style = {"color": "k", "ls": "--"} if name == "retrain_2" else {"marker": "o", "ms": 3}
        for panel, measure in zip(panels, ("gap", "auc"), strict=True):
            means = [found[name][share][measure][0] for share in shares]
            panel.plot([float(share) for share in shares], means, label=name, lw=1.2, **style)
    panels[0].set(xlabel="rho", ylabel="average gap to Retrain, points", ylim=(0, None))
    panels[1].set(xlabel="rho", ylabel="AUC of the loss attack, %")
    panels[1].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
