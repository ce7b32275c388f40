"""The seconds to compile one LTU step, in a fresh process without a compilation cache.

python -m experiments.performance.compiling resnet20 1.0
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import jax

from experiments.lib.provenance import ROOT
from experiments.performance.steps import prepare_training
from experiments.performance.subjects import CLASSES, subject
from ltu_jax.training import loop
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.algorithm import ltu

GOALS = {"mlp": 5.0, "cnn": 8.0, "resnet20": 20.0, "resnet18": 20.0}  # on two cores


def compiling(name: str, share: float, repeats: int) -> dict[str, Any]:
    """Return the seconds of `repeats` processes that each compile the step once.

    Args:
      name: of the network.
      share: of LTU's default batches.
      repeats: number of processes.
    """
    command = [sys.executable, "-m", "experiments.performance.compiling", name, str(share)]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    runs = [
        json.loads(
            subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            ).stdout.splitlines()[-1]
        )
        for _ in range(repeats)
    ]
    runs.sort(key=lambda run: run["compile_seconds"])
    return {
        **runs[len(runs) // 2],
        "compile_seconds": [runs[i]["compile_seconds"] for i in (0, len(runs) // 2, -1)],
        "goal_seconds": GOALS.get(name),
    }


def compiled_here(name: str, share: float) -> dict[str, float]:
    """Return the seconds to trace, lower and compile the step in this process."""
    one = subject(name, share)
    method = ltu(one.model, spec_of(one.data, CLASSES), one.config)
    key = jax.random.key(0)
    state = method.prepare(key, one.variables, one.data)
    compiled = prepare_training(loop.as_step(method), key, state, one.data).compiled
    return {"compile_seconds": compiled.seconds, "peak_bytes": compiled.peak_bytes}


if __name__ == "__main__":
    print(json.dumps(compiled_here(sys.argv[1], float(sys.argv[2]))))
