"""Two processes with two devices each give the run of one process with four.

The single process keeps the training set in memory; the two stream it, and each reads its share.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ltu_jax.data import load
from ltu_jax.runs.plan_model import as_model, trace
from ltu_jax.training import hosts
from ltu_jax.training.checkpoint import export, restore
from tests.data.conftest import ToyImages
from tests.refusals import refused

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# The pieces of what Gloo prints on standard output; those of two threads may mix.
GLOO = r"\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of [a-z ]+ is : |\d+"


def begin(out, data_dir, *options):
    """Return the command line of a small deletion."""
    config = out.parent / "config.json"
    config.write_text(json.dumps({"steps": 4, "query_sampling": ["uniform"], "query_size": 16}))
    return [
        *("unlearn", "--data", "toy_images", "--data-dir", data_dir, "--model", "mlp"),
        *("--config", str(config), "--out", str(out), "--quiet", *options),
    ]


def start(out, devices, command):
    """Run a command line in a process with so many devices."""
    code = (
        f"import jax; jax.config.update('jax_num_cpu_devices', {devices}); "
        "jax.config.update('jax_cpu_collectives_implementation', 'gloo'); "
        f"from ltu_jax.cli.main import main; main({command})"
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(out.parent),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


started = []


@pytest.fixture(scope="module", autouse=True)
def none_left():
    """A test that fails leaves no process behind."""
    yield
    for process in started:
        with process:
            process.kill()


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def free_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


def start_two(out, command):
    """Run a command line in two processes with two devices each."""
    place = ("--coordinator", free_address(), "--num-processes", "2", "--process-id")
    return [start(out, 2, [*command, *place, str(i)]) for i in range(2)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    ToyImages(data_dir=folder, size=120, noise=200).download_and_prepare(file_format="array_record")
    return str(folder)


@pytest.fixture(scope="module")
def like(data_dir):
    dataset = load("toy_images", data_dir=data_dir)
    return trace(as_model("mlp", dataset), dataset)


@pytest.fixture(scope="module")
def original(data_dir, tmp_path_factory):
    # MI models are fitted to the original's outputs so long that its rounding would show in them.
    folder = tmp_path_factory.mktemp("start") / "original"
    dataset = load("toy_images", data_dir=data_dir)
    start = as_model("mlp", dataset).init(jax.random.key(0), dataset.train.inputs[:1] / 255)
    # A given model sees inputs in [0, 1]; its first layer brings them to [-2, 2].
    first = start.params["Dense_0"]
    first["bias"] = first["bias"] - 2 * first["kernel"].sum(0)
    first["kernel"] = 4 * first["kernel"]
    export(folder, start)
    return folder


@pytest.fixture(scope="module")
def runs(data_dir, original, tmp_path_factory):
    """The folders of the two runs, and what each process of the second one printed."""
    alone, shared = (tmp_path_factory.mktemp(name) / "run" for name in ("alone", "shared"))
    options = (data_dir, "--checkpoint", str(original), "--epochs", "2")
    processes = [
        *start_two(shared, begin(shared, *options, "--stream")),
        start(alone, 4, begin(alone, *options)),
    ]
    return alone, shared, [finish(process) for process in processes]


def networks(run, like):
    return {name: restore(run / name, like) for name in ("retrain", "retrain_2", "unlearned")}


def test_two_processes_give_the_models_of_one(runs, like, original):
    alone, shared, _ = runs
    one, two = (networks(run, like) for run in (alone, shared))
    for name in one:
        pairs = zip(jax.tree.leaves(one[name]), jax.tree.leaves(two[name]), strict=True)
        for a, b in pairs:
            assert np.abs(a - b).max() < 1e-5 * np.abs(a).max(), name
    leaves = (jax.tree.leaves(one) for one in (restore(original, like), two["unlearned"]))
    for a, b in zip(*leaves, strict=True):
        assert not np.array_equal(a, b)


def test_only_process_0_writes_and_prints(runs):
    alone, shared, printed = runs
    assert "report.html" in printed[0]
    assert not re.sub(GLOO, "", printed[1]).strip()
    assert {p.name for p in shared.iterdir()} == {p.name for p in alone.iterdir()}
    # The other process's scratch folder was in the same place, and is gone.
    assert {p.name for p in shared.parent.iterdir() if p.is_dir()} == {"run"}
    rows = [json.loads((run / "report.json").read_text())["rows"] for run in (alone, shared)]
    for one, other in zip(*rows, strict=True):
        assert one["ua"] == pytest.approx(other["ua"])
    # Not the AUC of these scores: where two are almost equal, rounding says which is larger.
    with np.load(alone / "scores.npz") as one, np.load(shared / "scores.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_resumed_run_of_two_processes_gives_the_same_bits(data_dir, like, tmp_path):
    options = ("--epochs", "150", "--save-every", "20", "--reference", "none")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    processes = start_two(whole, begin(whole, data_dir, *options))
    stopping = start_two(stopped, begin(stopped, data_dir, *options))
    while not list(stopped.glob("running/original/0*")):
        assert all(process.poll() is None for process in stopping)
        time.sleep(0.002)
    stopping[1].send_signal(signal.SIGTERM)  # one receives it; both save and stop
    for process in stopping:
        process.communicate(timeout=300)
        assert process.returncode == 143
    newest = max(stopped.glob("running/original/0*"))
    assert 20 <= int(newest.name) < 150
    (newest / "about.json").write_text("{}")
    for process in (*processes, *start_two(stopped, ["unlearn", "--resume", str(stopped)])):
        finish(process)
    for name in ("original", "unlearned"):
        one, other = (jax.tree.leaves(restore(run / name, like)) for run in (whole, stopped))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not (stopped / "running").exists()


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        (("host:1", 2, None), "coordinator"),
        ((None, 2, 0), "coordinator"),
        (("host", 2, 0), "coordinator"),
        (("host:port", 2, 0), "coordinator"),
        (("host:1", 0, 0), "num_processes"),
        (("host:1", 2, 2), "process_id"),
        (("host:1", 2, -1), "process_id"),
    ],
)
def test_bad_addresses_are_refused_before_any_computation(given, argument):
    with refused(argument):
        hosts.join(*given)


def test_all_or_no_arguments_are_valid():
    hosts.check(None, None, None)
    hosts.check("[::1]:1234", 2, 1)


def test_a_single_process_writes_its_own_folder(tmp_path):
    with hosts.results_folder(tmp_path) as folder:
        assert folder == tmp_path
    assert hosts.is_main()
