"""Provoke the failures that the paper's summary lists, and see what in a run gives them away.

    python -m experiments.ablations.failure_signatures
    python -m experiments.ablations.failure_signatures --quick

On digits, `mlp`, a random 10 %. Support and query not disjoint: all membership models are one and
the same. Harmonisation removing too much: the forgetting gradient pushes scores to non-member and
outweighs remembering. Too many membership models: thirty. Beside each the sound run; for each the
number that reveals it (`unlearners.ltu.diagnostics`), the library's warning, the average
gap and the seconds. Five seeds; some minutes. Writes `experiments/results/failure_signatures.json`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.lib import study
from experiments.lib.provenance import ROOT, git_state
from experiments.lib.study import Setting, Variant, variant
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.report.write import versions
from ltu_jax.unlearners.ltu import diagnostics as diagnosis
from ltu_jax.unlearners.ltu.membership import DIVERSE

OUT = ROOT / "experiments/results/failure_signatures.json"
SETTING = Setting("digits", None, "mlp")
CASES = {
    "sound": variant("ltu"),
    "support and query the same": variant(
        "ltu", membership=[list(DIVERSE[0]._replace(share=1.0))] * 6
    ),
    "harmonisation removes too much": variant(
        "ltu", membership_target="push", forget_weight=3.0, distill=0.0
    ),
    "too many membership models": variant(
        "ltu", membership=[list(spec) for spec in DIVERSE] * 5, membership_support=15
    ),
}


@dataclass(frozen=True)
class Options:
    """Provoke, measure, write.

    Attributes:
      quick: one seed, 20 steps and three cases, into `runs/`: a test that all of it works.
    """

    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Run all cases and write what was seen."""
    options = tyro.cli(Options, args=args)
    keep_programs(study.FOLDER)
    seeds = (0,) if options.quick else (0, 1, 2, 3, 4)
    setting = SETTING._replace(epochs=5) if options.quick else SETTING
    cases = {}
    some = list(CASES.items())
    for name, case in some[:3] if options.quick else some:
        if options.quick:
            case = variant(case.method, **{**study.options_of(case), "steps": 20})
        cases[name] = together([observe(setting, case, seed) for seed in seeds])
        print(f"{name}: {json.dumps(cases[name], indent=2)}")
    results = {
        "source": {
            "command": "python -m experiments.ablations.failure_signatures",
            "git": git_state(),
            "versions": versions(),
        },
        "config": {"setting": setting._asdict(), "seeds": seeds},
        "cases": cases,
    }
    out = Path("runs/failure_signatures.json") if options.quick else OUT
    write_json(out, plain(results))


def observe(setting: Setting, case: Variant, seed: int) -> dict[str, Any]:
    """Return what one run shows."""
    from ltu_jax.audit.measure import measure_model
    from ltu_jax.audit.summary import with_gaps

    bench = study.bench(setting, seed, None)
    bench.unlearned(case)  # compiles
    start = time.perf_counter()
    network, history = bench.unlearned(case)
    seconds = time.perf_counter() - start
    rows = with_gaps(
        [
            measure_model(bench.plan.problem, "retrain", bench.network("retrain")).row,
            measure_model(bench.plan.problem, "ltu", network).row,
        ]
    )
    removed = diagnosis.share_removed(history["cosine"])
    return {
        "gap": rows[-1].avg_gap,
        "ra": rows[-1].gaps["ra"],
        "ua": rows[-1].gaps["ua"],
        "removed": 100 * float(np.median(removed)),
        "effective_models": float(history["effective_models"].mean()),
        "seconds": seconds,
        "signs": diagnosis.signs(history),
    }


def together(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and intervals over seeds, and in how many of them each warning was given."""
    numbers = [name for name in seen[0] if name != "signs"]
    warned = [sign.split(":")[0] for one in seen for sign in one["signs"]]
    return {
        **{name: study.interval([one[name] for one in seen]) for name in numbers},
        "seeds": len(seen),
        "warned": sum(bool(one["signs"]) for one in seen),
        "warnings": sorted(set(warned)),
    }


if __name__ == "__main__":
    main()
