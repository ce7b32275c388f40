"""What it costs to import this library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

IMPORTS = """
import time
import jax
start = time.perf_counter()
import ltu_jax
print(time.perf_counter() - start)
"""


def import_seconds(repeats: int) -> float:
    """Return the seconds that `import ltu_jax` takes once JAX is imported, a median.

    Every import is in a fresh process. It is timed there, after `import jax`: a difference of two
    processes would drown in what else the machine does.
    """
    seconds = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
        )
        seconds.append(float(done.stdout))
    return float(np.median(seconds))
