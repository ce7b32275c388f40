"""Which diagnostics reveal the failures that the paper's summary lists?

    python -m experiments.ablations.failure_signatures
    python -m experiments.ablations.failure_signatures --quick

Each failure is provoked on digits, `mlp`, a random 10 %. Support and query not disjoint: all
membership models are the same. Harmonisation removing too much: the forgetting gradient pushes
scores to non-member and outweighs remembering. Too many membership models: thirty. Reported for
each, and for a sound run: the diagnostics (`unlearners.ltu.diagnostics`), warnings, average gap and
seconds. Five seeds; some minutes. Writes `experiments/results/failure_signatures.json`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.lib import study, tables
from experiments.lib.provenance import command_source
from experiments.lib.settings import QUICK_OPTIONS
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.report.comparison.table import interval
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Variant, variant
from ltu_jax.unlearners.ltu import diagnostics
from ltu_jax.unlearners.ltu.membership import DIVERSE

SETTING = Setting("digits", None, "mlp")
CASES = {
    "sound": variant("ltu"),
    "support and query the same": variant(
        "ltu", objective={"specs": [list(DIVERSE[0]._replace(share=1.0))] * 6}
    ),
    "harmonisation removes too much": variant(
        "ltu", objective={"name": "push"}, forget_weight=3.0, distill=0.0
    ),
    "too many membership models": variant(
        "ltu", objective={"specs": [list(spec) for spec in DIVERSE] * 5, "support": 15}
    ),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run all cases and write the results."""
    study.main("failure_signatures", compute, render=tables.failures, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return the diagnostics of every case."""
    keep_programs(study.FOLDER)
    setting, seeds, cases = SETTING, (0, 1, 2, 3, 4), CASES
    if options.quick:
        setting, seeds = SETTING._replace(epochs=5), (0,)
        cases = {
            name: variant("ltu", **{**QUICK_OPTIONS, **Job(setting, case, 0).options, "steps": 20})
            for name, case in list(CASES.items())[:2]
        }
    return {
        "source": command_source("ablations.failure_signatures"),
        "config": {"setting": setting._asdict(), "seeds": seeds},
        "cases": {
            name: together([observe(setting, case, seed, options.data_dir) for seed in seeds])
            for name, case in cases.items()
        },
    }


def observe(setting: Setting, case: Variant, seed: int, data_dir: str | None) -> dict[str, Any]:
    """Return the diagnostics of one run."""
    bench, options = study.bench(setting, seed, data_dir), Job(setting, case, seed).options
    bench.unlearned("ltu", options)  # compiles
    start = time.perf_counter()
    model, history = bench.unlearned("ltu", options)
    seconds = time.perf_counter() - start
    metrics = bench.measure("ltu", model)
    return {
        "gap": metrics["avg_gap"],
        "ra": metrics["gaps"]["ra"],
        "ua": metrics["gaps"]["ua"],
        "removed": 100 * float(np.median(diagnostics.share_removed(history["cosine"]))),
        "effective_models": float(history["effective_models"].mean()),
        "seconds": seconds,
        "signs": diagnostics.diagnose(history),
    }


def together(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and intervals over seeds, and in how many of them each warning was given."""
    numbers = [name for name in seen[0] if name != "signs"]
    warned = [sign.split(":")[0] for one in seen for sign in one["signs"]]
    return {
        **{name: interval([one[name] for one in seen]) for name in numbers},
        "seeds": len(seen),
        "warned": sum(bool(one["signs"]) for one in seen),
        "warnings": sorted(set(warned)),
    }


if __name__ == "__main__":
    main()
