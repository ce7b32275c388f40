"""Two processes with two devices each make, for real, the run of one process with four."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.plan import as_model, trace
from ltu_jax.training import hosts
from ltu_jax.training.checkpoint import export, restore
from tests import tiny

ROOT = Path(__file__).parents[2]


def start(out, devices, checkpoint, *options):
    """Begin a small deletion by the command line in a process with so many devices."""
    config = out.parent / "config.json"
    config.write_text(json.dumps({"steps": 4, "query_sampling": ["uniform"], "query_size": 16}))
    command = [
        *("unlearn", "--data", "tests.tiny:table", "--epochs", "2", "--quiet"),
        *("--checkpoint", str(checkpoint), "--config", str(config), "--out", str(out), *options),
    ]
    code = (
        f"import jax; jax.config.update('jax_num_cpu_devices', {devices}); "
        "jax.config.update('jax_cpu_collectives_implementation', 'gloo'); "
        f"from ltu_jax.cli import main; main({command})"
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(out.parent),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


def free_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of the two runs, and what each process of the second one printed."""
    alone, shared = (tmp_path_factory.mktemp(name) / "run" for name in ("alone", "shared"))
    # MI models are fitted to the original's outputs so long that its rounding would show in them.
    original = tmp_path_factory.mktemp("start") / "original"
    model = as_model(None, tiny.table())
    export(original, model.init(jax.random.key(0), tiny.table().train.inputs[:1]))
    together = ("--coordinator", free_address(), "--num-processes", "2", "--process-id")
    processes = [start(shared, 2, original, *together, str(i)) for i in range(2)]
    return alone, shared, [finish(process) for process in (*processes, start(alone, 4, original))]


def test_two_processes_make_the_networks_of_one(runs):
    alone, shared, _ = runs
    like = trace(as_model(None, tiny.table()), tiny.table())
    for name in ("retrain", "retrain_2", "unlearned"):
        one, two = (restore(run / name, like) for run in (alone, shared))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert np.abs(a - b).max() < 1e-5 * np.abs(a).max(), name
    first, last = (restore(shared / name, like).params for name in ("original", "unlearned"))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        assert not np.array_equal(a, b)


def test_process_0_alone_writes_and_shows(runs):
    alone, shared, printed = runs
    assert "report.html" in printed[0]
    assert all(line.startswith("[Gloo]") for line in printed[1].splitlines())
    assert {p.name for p in shared.iterdir()} == {p.name for p in alone.iterdir()}
    # The other process's scratch folder was in the same place, and is gone.
    assert {p.name for p in shared.parent.iterdir() if p.is_dir()} == {"run"}
    rows = [json.loads((run / "report.json").read_text())["rows"] for run in (alone, shared)]
    for one, other in zip(*rows, strict=True):
        assert one["ua"] == pytest.approx(other["ua"])
        assert one["auc"] == pytest.approx(other["auc"], abs=0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", 2, None), "give all three"),
        ((None, 2, 0), "give all three"),
        (("host", 2, 0), "--coordinator host: write it as HOST:PORT"),
        (("host:port", 2, 0), "--coordinator host:port: write it as HOST:PORT"),
        (("host:1", 0, 0), "--num-processes 0: give 1 or more"),
        (("host:1", 2, 2), "--process-id 2: give 0 to 1"),
        (("host:1", 2, -1), "--process-id -1: give 0 to 1"),
    ],
)
def test_places_that_do_not_fit_are_refused_before_anything_is_computed(given, message):
    with pytest.raises(InputError, match=message):
        hosts.join(*given)


def test_nothing_or_all_of_a_place_is_fine():
    hosts.check(None, None, None)
    hosts.check("[::1]:1234", 2, 1)


def test_a_single_process_writes_its_own_folder(tmp_path):
    with hosts.results_folder(tmp_path) as folder:
        assert folder == tmp_path
    assert hosts.is_main()
