"""Does the score of `ltu tune` choose the right number of steps without Retrain?

    python -m experiments.ablations.stopping --data-dir DIR
    python -m experiments.ablations.stopping --quick

LTU with 15 to 600 steps, all else its default. Each run holds a tenth of the accessible examples
and a third of the validation examples back and is scored on them (`ltu_jax.runs.tuning`); the rule
takes the number of steps of the smallest score. Compared with it: the default, and the oracle,
which takes that of the smallest gap to Retrain. A random 10 % of digits and of 5,000 images
of CIFAR-10, `mlp`, five seeds. Runs are kept in `runs/stopping`, so that an interrupted command
continues. Writes `experiments/results/stopping.json` and `docs/stopping.png`; ten minutes on two
cores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ltu_jax.unlearners as unlearners
from experiments.lib import study, tables
from experiments.lib.provenance import command_source
from experiments.lib.settings import DIGITS, PRIMARY, QUICK, QUICK_OPTIONS
from ltu_jax.files import write_json
from ltu_jax.report.comparison.table import interval
from ltu_jax.report.content import plain
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, variant
from ltu_jax.runs.plan import with_method
from ltu_jax.runs.tuning import select
from ltu_jax.unlearners.base import Choice

FOLDER = Path("runs/stopping")
SETTINGS = {"digits": DIGITS, "CIFAR-10": PRIMARY}
DEFAULT, STEPS = 300, (15, 30, 60, 120, 600)  # the first trial has the default
SEEDS = (0, 1, 2, 3, 4)


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("stopping", compute, draw=draw, render=tables.stopping, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return scores and gaps by setting, by steps and by stopping rule."""
    settings = {"quick": QUICK} if options.quick else SETTINGS
    steps, seeds = ((5,), (0,)) if options.quick else (STEPS, SEEDS)
    return {
        "source": command_source("ablations.stopping --data-dir DIR"),
        "config": {"default": DEFAULT, "steps": steps, "seeds": seeds},
        "settings": {
            name: collect({seed: trials(setting, seed, steps, options) for seed in seeds})
            for name, setting in settings.items()
        },
    }


def trials(
    setting: Setting, seed: int, steps: Sequence[int], options: study.Options
) -> list[dict[str, float]]:
    """Return steps, score and gap of each run, kept on disk."""
    path = FOLDER / f"{Job(setting, variant('ltu'), seed).digest}.json"
    if not path.exists():
        bench, ltu = study.bench(setting, seed, options.data_dir), unlearners.find("ltu")
        config = unlearners.configure(ltu, QUICK_OPTIONS if options.quick else {})
        method = replace(ltu, config=config, space={"steps": Choice(steps)})
        # Of n draws from n options each is drawn once; the default comes first.
        selection = select(
            with_method(bench.plan, method, None),
            bench.model("original").variables,
            trials=1 + len(steps),
            oracle=lambda model: bench.measure("ltu", model)["avg_gap"],
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


def collect(of_seed: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return score and gap by number of steps, and the gap of each rule, over the seeds."""
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
            steps: {key: interval([run[key] for run in runs]) for key in ("score", "gap")}
            for steps, runs in by_steps.items()
        },
        "rules": {
            rule: {
                "steps": [run["steps"] for run in runs],
                "gap": interval([run["gap"] for run in runs]),
            }
            for rule, runs in chosen.items()
        },
    }


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of score and gap against the number of steps, a panel for each setting."""
    import matplotlib.pyplot as plt

    settings = results["settings"]
    figure, panels = plt.subplots(1, len(settings), figsize=(4.2 * len(settings), 3.2))
    for (name, cell), panel in zip(settings.items(), panels, strict=True):
        for key, label in (("gap", "average gap to Retrain"), ("score", "score without Retrain")):
            means = [one[key][0] for one in cell["steps"].values()]
            panel.plot([int(s) for s in cell["steps"]], means, "o-", ms=3, lw=1.2, label=label)
        panel.set(xscale="log", xlabel="steps", ylabel="points", ylim=(0, None), title=name)
        panel.set_xticks([int(steps) for steps in cell["steps"]], list(cell["steps"]))
        panel.minorticks_off()
    panels[0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
