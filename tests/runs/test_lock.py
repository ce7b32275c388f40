"""One process at a time in the folder of a run."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import ltu_jax
from ltu_jax.errors import InputError
from ltu_jax.runs import lock
from ltu_jax.runs.ensembles import ensemble_folder, make_ensembles
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.spec import InMemory

HOLD = "import sys, time; from pathlib import Path; from ltu_jax.runs import lock\n"
HOLD += "with lock.claim(Path(sys.argv[1]), 'run'): print(flush=True); time.sleep(600)"
SHORT = {"method": "finetune", "reference": "none", "epochs": 1, "quiet": True}


@pytest.fixture
def held(tmp_path):
    """Return a function that has another process hold a folder."""
    started = []

    def hold(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    inputs = (labels[:, None] + rng.normal(size=(120, 4))).astype(np.float32)
    return ltu_jax.from_arrays((inputs[:80], labels[:80]), (inputs[80:], labels[80:]))


def refusal(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    return caught.value


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_held_folder_takes_no_new_run_and_is_not_touched(held, tmp_path, data):
    process = held(tmp_path)
    before = content(tmp_path)
    error = refusal(ltu_jax.unlearn, data, ["3"], out=tmp_path, **SHORT)
    assert error.argument == "out"
    assert str(process.pid) in error.problem
    assert content(tmp_path) == before


@pytest.mark.slow
def test_a_run_taken_between_check_and_claim_is_refused(held, tmp_path, data, monkeypatch):
    held(tmp_path / ".." / tmp_path.name)
    monkeypatch.setattr("ltu_jax.runs.lock.check_free", lambda *args: None)
    assert refusal(ltu_jax.unlearn, data, ["3"], out=tmp_path, **SHORT).argument == "out"


@pytest.mark.slow
def test_a_finished_run_in_use_is_neither_audited_nor_continued(held, tmp_path, data):
    run = ltu_jax.unlearn(data, ["3"], out=tmp_path / "run", **SHORT).folder
    assert not {lock.LOCK, lock.OWNER} & {path.name for path in run.iterdir()}
    process = held(run)
    before = content(run)
    for refused in (
        refusal(ltu_jax.audit_run, run, data=data, quiet=True),
        refusal(ltu_jax.unlearn_next, run, ["5"], data=data, out=tmp_path / "next"),
    ):
        assert refused.argument == "run"
        assert str(process.pid) in refused.problem
    assert content(run) == before
    assert not (tmp_path / "next").exists()


@pytest.mark.slow
def test_an_unfinished_run_names_its_process_until_that_is_killed(held, tmp_path, data):
    run = ltu_jax.unlearn(data, ["3"], out=tmp_path / "run", **SHORT).folder
    (run / "running").mkdir()
    (run / "running" / "finished.json").write_text("{}")
    process = held(run)
    for refused in (
        refusal(ltu_jax.resume, run, data=data),
        refusal(load_plan, run, InMemory(data)),
    ):
        assert str(process.pid) in refused.problem
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "unfinished" in refusal(load_plan, run, InMemory(data)).problem
    assert ltu_jax.resume(run, data=data, quiet=True).folder == run


@pytest.mark.slow
def test_an_ensemble_is_made_by_one_process(held, tmp_path, data):
    run = ltu_jax.unlearn(data, ["3"], out=tmp_path / "run", **SHORT).folder
    plan = load_plan(run, InMemory(data))
    entry = ensemble_folder(plan, "retrain", 2, tmp_path / "all")
    entry.mkdir(parents=True)
    held(entry)
    made = make_ensembles(plan, ("retrain",), 2, tmp_path / "all", quiet=True)
    assert refusal(next, made).argument == "ensembles"
    assert not (entry / "models").exists()


def test_a_claim_leaves_nothing_and_a_stale_one_does_not_block(tmp_path):
    (tmp_path / lock.LOCK).touch()
    (tmp_path / lock.OWNER).write_text(json.dumps({"process": 1, "host": "gone"}))
    lock.check_free(tmp_path, "run")
    with lock.claim(tmp_path, "run"):
        assert json.loads((tmp_path / lock.OWNER).read_text())["process"] == os.getpid()
        assert refusal(lock.claim(tmp_path, "out").__enter__).argument == "out"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def deny(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", deny)
    assert refusal(lock.claim(tmp_path, "run").__enter__).argument == "run"


@pytest.mark.slow
def test_ctrl_c_names_the_run_which_resumes(tmp_path, data, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ltu_jax.runs.pipeline.measure_models", interrupt)
        with pytest.raises(KeyboardInterrupt) as stopped:
            ltu_jax.unlearn(data, ["3"], out=tmp_path / "run", **SHORT)
    assert stopped.value.run == str(tmp_path / "run")
    assert ltu_jax.resume(stopped.value.run, data=data, quiet=True).metrics
