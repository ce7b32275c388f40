"""What does it take to look like Retrain to someone who holds both networks?

    python -m experiments.attacks.movement --data-dir DIR
    python -m experiments.attacks.movement --quick

The two-model attack calls forgotten what fell the most from the original to the unlearned network.
A retrained network answers held-out examples anew as well, so that the forget set hides among them;
an unlearned one leaves them where they were. Here the original's weights are shaken by noise before
`ltu_joint` (`shake`), with 30 % of the retain set and with all of it, on a random 10 % of CIFAR-10
(5,000 images, `mlp`). Writes `experiments/results/movement.json` and `docs/movement.png`; ten
minutes on two cores with LTU_STUDY_WORKERS=2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.lib import study
from experiments.lib.provenance import ROOT
from experiments.lib.settings import PRIMARY, QUICK
from experiments.lib.study import Job, variant
from ltu_jax.files import write_json
from ltu_jax.report.content import plain

OUT = ROOT / "experiments/results/movement.json"
FIGURE = ROOT / "docs/movement.png"
SHAKES = (0.0, 0.2, 0.4)
SHARES = (0.3, 1.0)
SEEDS = (0, 1, 2)
REFERENCES = ("retrain", "retrain_2")


@dataclass(frozen=True)
class Options:
    """Make the rows that are missing, collect and draw them.

    Attributes:
      data_dir: folder in which TFDS keeps prepared data sets.
      quick: digits, two kinds of noise, one seed, into `runs/`: a test that all of it works.
      gather: collect what is there without making anything.
    """

    data_dir: str | None = None
    quick: bool = False
    gather: bool = False


def main(args: list[str] | None = None) -> None:
    """Run, write, draw."""
    options = tyro.cli(Options, args=args)
    wanted = quick_jobs() if options.quick else jobs()
    rows = study.rows_of(wanted, gather=options.gather, data_dir=options.data_dir)
    results = collect(rows)
    write_json(Path("runs/movement.json") if options.quick else OUT, plain(results))
    if not options.quick:
        draw(results["shares"], FIGURE)
    for share, found in results["shares"].items():
        print(
            f"rho {share}", {name: round(cell["two_model"][0], 1) for name, cell in found.items()}
        )


def jobs() -> list[Job]:
    """Return all jobs."""
    variants = [*map(variant, REFERENCES), *(variant("ltu_joint", shake=one) for one in SHAKES)]
    return [
        Job(PRIMARY._replace(retain_fraction=share), one, seed)
        for share in SHARES
        for one in variants
        for seed in SEEDS
    ]


def quick_jobs() -> list[Job]:
    """Return the jobs of a quick run."""
    shaken = [variant("ltu_joint", shake=one, steps=20) for one in (0.0, 0.4)]
    return [Job(QUICK, one, 0) for one in [*map(variant, REFERENCES), *shaken]]


def collect(rows: Mapping[Job, study.Row]) -> dict[str, Any]:
    """Return by share of the retain set, and by noise, the gap, accuracies and attacks."""
    found: dict[str, dict[str, Any]] = {}
    for job in rows:
        shake = study.options_of(job.variant).get("shake")
        name = job.variant.method if shake is None else f"{shake:g}"
        same = [j for j in rows if (j.setting, j.variant) == (job.setting, job.variant)]
        found.setdefault(f"{job.setting.retain_fraction:g}", {})[name] = study.cell(rows, same)
    return {
        "source": study.source("experiments.attacks.movement --data-dir DIR", rows.values()),
        "config": {"seeds": list(SEEDS), "shares": list(SHARES), "shakes": list(SHAKES)},
        "shares": found,
    }


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the accuracy that is kept against the attack, a line for each share."""
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(5, 3.4))
    for share, cells in found.items():
        shakes = [name for name in cells if name not in REFERENCES]
        points = [(cells[name]["two_model"][0], cells[name]["ra"][0]) for name in shakes]
        panel.plot(*zip(*points, strict=True), "o-", ms=3, lw=1.2, label=f"rho = {share}")
        for name, point in zip(shakes, points, strict=True):
            panel.annotate(name, point, textcoords="offset points", xytext=(3, 3), fontsize=7)
    retrain = next(iter(found.values()))["retrain"]
    panel.plot(retrain["two_model"][0], retrain["ra"][0], "k*", label="Retrain")
    panel.axvspan(*retrain["two_model"][1:], color="k", alpha=0.1, lw=0)
    panel.set(xlabel="AUC of the two-model attack, %", ylabel="accuracy on the retain set, %")
    panel.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
