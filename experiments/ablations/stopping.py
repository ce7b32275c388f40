"""When to stop, without Retrain: does the score of `ltu tune` know the right number of steps?

    python -m experiments.ablations.stopping --data-dir DIR
    python -m experiments.ablations.stopping --quick

LTU with 15 to 600 steps, all else its default. Each run holds a tenth of the accessible examples
and a third of the validation examples back and is scored on them (`ltu_jax.runs.tuning`); the rule
takes the number of steps of the smallest score. Beside it: the default, which asks nobody, and the
oracle, which takes that of the smallest gap to Retrain. A random 10 % of digits and of 5,000 images
of CIFAR-10, `mlp`, five seeds. What is done is kept in `runs/stopping`, and an interrupted command
goes on. Writes `experiments/results/stopping.json` and `docs/stopping.png`; ten minutes on two
cores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

import ltu_jax.unlearners as unlearners
from experiments.lib import study
from experiments.lib.provenance import ROOT, git_state
from experiments.lib.settings import DIGITS, PRIMARY, QUICK
from experiments.lib.study import Setting
from ltu_jax.audit.measure import measure_model
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions
from ltu_jax.runs.plan import with_method
from ltu_jax.runs.tuning import select
from ltu_jax.types import TrainedModel
from ltu_jax.unlearners.base import Choice

OUT = ROOT / "experiments/results/stopping.json"
FIGURE = ROOT / "docs/stopping.png"
FOLDER = Path("runs/stopping")
SETTINGS = {"digits": DIGITS, "CIFAR-10": PRIMARY}
DEFAULT, STEPS = 300, (15, 30, 60, 120, 600)  # the first trial has the default
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Options:
    """Make the runs that are missing, collect and draw.

    Attributes:
      data_dir: folder in which TFDS keeps prepared data sets.
      quick: digits, two numbers of steps, one seed, into `runs/`: a test that all of it works.
    """

    data_dir: str | None = None
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Run, write, draw."""
    options = tyro.cli(Options, args=args)
    settings = {"quick": QUICK} if options.quick else SETTINGS
    steps, seeds = ((5,), (0,)) if options.quick else (STEPS, SEEDS)
    found = {
        name: {seed: trials(setting, seed, steps, options.data_dir) for seed in seeds}
        for name, setting in settings.items()
    }
    results = {
        "source": {
            "command": "python -m experiments.ablations.stopping --data-dir DIR",
            "git": git_state(),
            "versions": versions(),
        },
        "config": {"default": DEFAULT, "steps": steps, "seeds": seeds},
        "settings": {name: collect(of_seed) for name, of_seed in found.items()},
    }
    write_json(Path("runs/stopping.json") if options.quick else OUT, plain(results))
    if not options.quick:
        draw(results["settings"], FIGURE)
    for name, cell in results["settings"].items():
        print(name, {rule: round(one["gap"][0], 2) for rule, one in cell["rules"].items()})


def trials(
    setting: Setting, seed: int, steps: Sequence[int], data_dir: str | None
) -> list[dict[str, float]]:
    """Return steps, score and gap of each run; of a second call what the first has kept."""
    path = FOLDER / f"{study.key(study.Job(setting, study.variant('ltu'), seed))}.json"
    if not path.exists():
        bench = study.bench(setting, seed, data_dir)
        retrain = measured(bench.plan, "retrain", bench.network("retrain"))
        method = replace(unlearners.find("ltu"), space={"steps": Choice(steps)})
        # Of n draws from n options each is drawn once; the default comes first.
        selection = select(
            with_method(bench.plan, method, None),
            bench.network("original").variables,
            trials=1 + len(steps),
            oracle=lambda network: study.gap(measured(bench.plan, "ltu", network), retrain),
        )
        runs = [
            {
                "steps": trial.options.get("steps", DEFAULT),
                "score": trial.score.total,
                "gap": trial.gap,
            }
            for trial in selection.trials
            if trial.score is not None
        ]
        write_json(path, plain(sorted(runs, key=lambda run: run["steps"])))
    return json.loads(path.read_text(encoding="utf-8"))


def measured(plan: Any, name: str, network: TrainedModel) -> dict[str, Any]:
    """Return the report's numbers of a network."""
    return measure_model(plan.problem, name, network).row._asdict()


def collect(of_seed: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return by number of steps score and gap, and what each rule comes to, over the seeds."""
    numbers = sorted({run["steps"] for runs in of_seed.values() for run in runs})
    chosen = {
        "score": [min(runs, key=lambda run: run["score"]) for runs in of_seed.values()],
        "default": [run for runs in of_seed.values() for run in runs if run["steps"] == DEFAULT],
        "oracle": [min(runs, key=lambda run: run["gap"]) for runs in of_seed.values()],
    }
    by_steps = {
        steps: [run for runs in of_seed.values() for run in runs if run["steps"] == steps]
        for steps in numbers
    }
    return {
        "steps": {
            steps: {key: study.interval([run[key] for run in runs]) for key in ("score", "gap")}
            for steps, runs in by_steps.items()
        },
        "rules": {
            rule: {
                "steps": [run["steps"] for run in runs],
                "gap": study.interval([run["gap"] for run in runs]),
            }
            for rule, runs in chosen.items()
        },
    }


def draw(settings: Mapping[str, Any], path: Path) -> None:
    """Draw score and gap against the number of steps, a panel for each setting."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(settings), figsize=(4.2 * len(settings), 3.2))
    for (name, cell), panel in zip(settings.items(), panels, strict=True):
        for key, label in (("gap", "average gap to Retrain"), ("score", "score without Retrain")):
            means = [one[key][0] for one in cell["steps"].values()]
            panel.plot([int(s) for s in cell["steps"]], means, "o-", ms=3, lw=1.2, label=label)
        panel.set(xscale="log", xlabel="steps", ylabel="points", ylim=(0, None), title=name)
        panel.set_xticks([int(steps) for steps in cell["steps"]], list(cell["steps"]))
        panel.minorticks_off()
    panels[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
