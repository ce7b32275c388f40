"""Where the time of a step goes: what XLA's profiler saw its threads do, by kind of operation.

python -m experiments.performance.profiles resnet20 1.0
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from experiments.lib.provenance import ROOT
from experiments.performance.steps import Prepared, Row, prepare_step
from experiments.performance.subjects import CLASSES, Subject, subject
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.algorithm import ltu

# The first pattern that is found in an operation's name says its kind. XLA names a fusion after
# the last operations in it; those of its kernel library hold a product and what surrounds it.
KINDS = {
    "convolutions": "conv",
    "products": "dot|gemm|matmul|cublas|ynn_fusion|custom-call",
    "sorts": "sort|top-?k",
    "moves": "copy|transpose|pad|concatenate|slice|gather|scatter|select_and|bitcast_fusion",
    "element-wise and sums": "",
}
_NO_OPERATION = re.compile(r"::|^end: |^\$|\s")  # of the runtime or of Python


def profile(name: str, share: float) -> Row:
    """Return `step_profile` of a built-in network; on a CPU, of a process with one thread.

    With more threads a convolution runs in threads that no trace records, and operations that wait
    for it or run at the same time appear slow.
    """
    if jax.default_backend() != "cpu":
        return step_profile(subject(name, share))
    command = [sys.executable, "-m", "experiments.performance.profiles", name, str(share)]
    one_thread = {**os.environ, "PJRT_NPROC": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=one_thread, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def step_profile(subject: Subject) -> Row:
    """Return the shares of an LTU step's time, second order, by kind of operation.

    `operations` is how many there were, those of a loop as often as they were run. An operation's
    time is that of the thread which began it, and ends when its last part on any thread is done.
    """
    method = ltu(subject.model, spec_of(subject.data, CLASSES), subject.config)
    return shares(profiled(prepare_step(method, subject.variables, subject.data)))


def profiled(step: Prepared) -> list[list[tuple[str, float, float]]]:
    """Take a step under the profiler and return each thread's operations: name, start, end in s."""
    step.once()
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        with jax.profiler.trace(folder):
            step.once()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(trace))
        threads = [
            [
                (event.name, 1e-9 * event.start_ns, 1e-9 * (event.start_ns + event.duration_ns))
                for event in line.events
                if not _NO_OPERATION.search(event.name)
            ]
            for plane in data.planes
            for line in plane.lines
            if line.name != "python"
        ]
    return [events for events in threads if events]


def shares(threads: list[list[tuple[str, float, float]]]) -> dict[str, Any]:
    """Return what `step_profile` says of the operations of each thread."""
    kinds: Counter[str] = Counter()
    for events in threads:
        for name, seconds in own_seconds(events):
            kinds[kind(name)] += seconds
    total = sum(kinds.values())
    return {
        "operations": sum(map(len, threads)),
        **{name: kinds[name] / total for name in KINDS},
    }


def own_seconds(events: Iterable[tuple[str, float, float]]) -> list[tuple[str, float]]:
    """Return names and seconds of nested events of one thread, without what is nested in each."""
    own: list[list[Any]] = []
    open_events: list[tuple[int, float]] = []  # which of `own`, and its end
    for name, start, end in sorted(events, key=lambda event: (event[1], -event[2])):
        while open_events and open_events[-1][1] <= start:
            open_events.pop()
        if open_events:
            own[open_events[-1][0]][1] -= min(end, open_events[-1][1]) - start
        open_events.append((len(own), end))
        own.append([name, end - start])
    return [(name, seconds) for name, seconds in own]


def kind(name: str) -> str:
    """Return the kind of an operation by its name.

    >>> kind("ynn_fusion.12"), kind("copy_bitcast_fusion"), kind("multiply_tanh_fusion.3")
    ('products', 'moves', 'element-wise and sums')
    """
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))


if __name__ == "__main__":
    print(json.dumps(step_profile(subject(sys.argv[1], float(sys.argv[2])))))
