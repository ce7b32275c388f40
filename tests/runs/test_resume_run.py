"""A whole deletion that is stopped at any moment ends as if it had not been."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError
from ltu_jax.files import PART
from ltu_jax.runs import loading, models, pipeline, tuning
from ltu_jax.runs.folder import RunFolder, RunState
from ltu_jax.runs.loading import load_plan, load_spec
from ltu_jax.runs.progress import Progress
from ltu_jax.runs.spec import InMemory
from ltu_jax.training import loop
from ltu_jax.training.checkpoint import restore
from tests import tiny
from tests.runs.test_pipeline import numbers

EXPORTS = ("original", "retrain", "retrain_2", "unlearned")


class Killed(Exception):
    """Stands for a process that ends without any warning."""


def killed(*arguments, **options):
    raise Killed


def kill_in_phase(name, step):
    """Return a patch that ends the process at one step of a phase."""

    def patch(monkeypatch):
        phase = Progress.phase

        def dying(self, found, total):
            on_info = phase(self, found, total)
            return lambda t, info: killed() if (found, t) == (name, step) else on_info(t, info)

        monkeypatch.setattr(Progress, "phase", dying)

    return patch


def kill_at_rename_of(name):
    """Return a patch that ends the process when a network was written, and is not in its place."""

    def patch(monkeypatch):
        rename = os.rename
        monkeypatch.setattr(
            os, "rename", lambda a, b: killed() if Path(b).name == name else rename(a, b)
        )

    return patch


MOMENTS = {
    "first step": kill_in_phase("train original", 0),
    "a network is written": kill_at_rename_of("original"),
    "prepare": lambda monkeypatch: monkeypatch.setattr(loop, "run", killed),
    "a step of the method": kill_in_phase("unlearn (ltu)", 1),
    "a reference": kill_in_phase("train retrain_2", 1),
    "audit": kill_in_phase("audit", 2),
    "report": lambda monkeypatch: monkeypatch.setattr(pipeline, "write_report", killed),
    "end": lambda monkeypatch: monkeypatch.setattr(RunState, "end", killed),
}


@pytest.fixture
def stopped(small_run, tmp_path, monkeypatch):
    """Run a small deletion up to a moment; return its folder."""

    def run(moment, **options):
        options = {"out": tmp_path / "run", "save_every": 1, **options}
        with monkeypatch.context() as patched:
            MOMENTS.get(moment, moment)(patched)
            with pytest.raises(Killed):
                small_run(**options)
        return options["out"]

    return run


def contents(result):
    """Return everything that a run leaves; wall times are left out."""
    folder = result.folder
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for row in report["rows"]:
        assert row.pop("seconds") > 0
    assert report["run"].pop("time")["seconds"] > 0
    assert len(report["ledger"].pop("sha256")) == 64  # of an entry with its time and salt
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    with np.load(folder / "scores.npz") as scores:
        scores = {name: values.tolist() for name, values in scores.items()}
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del settings["sha256"], settings["spec"]["save_every"]
    arrays = {name: restore(folder / name, result.unlearned) for name in EXPORTS}
    return {
        "files": sorted(path.name for path in [*folder.iterdir(), *(folder / "figures").iterdir()]),
        "report": report,
        "metrics": sorted(lines),
        "scores": scores,
        "settings": settings,
        "arrays": [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(arrays)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stopped_run_ends_as_if_it_had_not_been(moment, stopped, complete, caplog):
    folder = stopped(moment)
    assert RunFolder(folder).is_unfinished()
    result = ltu_jax.resume(folder, data=tiny.table(), quiet=True)
    assert contents(result) == contents(complete)
    assert numbers(result) == numbers(complete)
    for name, values in complete.history.items():
        np.testing.assert_array_equal(result.history[name], values)
    assert caplog.messages == []


@pytest.mark.slow
def test_finished_networks_are_not_made_again(stopped, monkeypatch):
    folder = stopped("a reference")
    before = {name: (folder / name).stat().st_mtime_ns for name in ("original", "retrain")}
    made, train = [], models.train_model

    def recording(plan, name, *arguments):
        made.append(name)
        return train(plan, name, *arguments)

    monkeypatch.setattr(models, "train_model", recording)
    monkeypatch.setattr(models, "unlearn_model", killed)
    ltu_jax.resume(folder, data=tiny.table(), quiet=True)
    assert made == ["retrain_2"]
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.slow
def test_a_damaged_network_and_what_was_half_written_are_made_again(stopped, complete, caplog):
    folder = stopped("audit")
    array = max((folder / "retrain").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    (folder / "running" / ".part-unlearned").mkdir()
    (folder / f"{PART}report.html").write_text("half")
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"phase": "aud')
    assert contents(ltu_jax.resume(folder, data=tiny.table(), quiet=True)) == contents(complete)
    (line,) = caplog.messages
    assert line.startswith(f"model {folder / 'retrain'} is made again: ")
    assert line.endswith("differs from what was written")


@pytest.mark.slow
def test_damaged_records_have_everything_made_again(stopped, complete, caplog):
    folder = stopped("a reference")
    records = folder / "running" / "finished.json"
    records.write_text(records.read_text().replace('"seconds": ', '"seconds": 1'))
    assert contents(ltu_jax.resume(folder, data=tiny.table(), quiet=True)) == contents(complete)
    assert caplog.messages[0].startswith(f"all phases of {folder} are repeated: finished.json")


@pytest.mark.slow
def test_networks_and_checkpoints_of_another_seed_are_not_used(stopped, complete, tmp_path, caplog):
    folder = stopped("a step of the method")
    other = stopped("a step of the method", out=tmp_path / "other", seed=1)
    for name in ("original", "running"):
        os.rename(folder / name, tmp_path / name)
        os.rename(other / name, folder / name)
    assert contents(ltu_jax.resume(folder, data=tiny.table(), quiet=True)) == contents(complete)
    assert [line.split(" is ")[1].split(": ")[1] for line in caplog.messages] == [
        "belongs to another run or to other settings"
    ] * len(caplog.messages)
    assert len(caplog.messages) >= 2


@pytest.mark.slow
def test_nothing_of_the_running_state_stays(small_run, tmp_path, monkeypatch):
    states, check = [], loop.check_invariants

    def keep(claims, state, *others):
        states.append(jax.device_get(state))
        return check(claims, state, *others)

    monkeypatch.setattr(loop, "check_invariants", keep)
    result = small_run(out=tmp_path / "run", save_every=1, reference="none")
    folder = result.folder
    (state,) = (numbered.inner for numbered in states)
    assert not (folder / "running").exists()
    secret = jax.tree.leaves(
        (state.opt_state, state.forgetting, state.teacher, state.source.losses)
    )
    secret = [np.asarray(leaf) for leaf in secret if np.size(leaf) > 3]
    assert len(secret) >= 5
    for name in ("original", "unlearned"):
        assert set(ocp.metadata(folder / name).metadata) == {"params", "state"}
    stored = [restore(folder / name, result.unlearned) for name in ("original", "unlearned")]
    stored = [np.asarray(leaf) for leaf in jax.tree.leaves(stored)]
    with np.load(folder / "scores.npz") as scores, np.load(folder / "split.npz") as split:
        stored += [*scores.values(), *split.values()]
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for leaf in secret:
        for array in stored:
            assert np.size(array) != leaf.size or not np.array_equal(np.ravel(array), leaf.ravel())
        if len(np.unique(leaf)) > 3:
            assert not any(leaf.tobytes() in content for content in files)
    found = {str(path.relative_to(folder)).split("/")[0] for path in folder.rglob("*")}
    assert found == {
        *("original", "unlearned", "run.json", "request.json", "split.npz", "scores.npz"),
        *("metrics.jsonl", "report.json", "report.html", "figures"),
        *("ledger.jsonl", "ledger.salts.json"),
    }


@pytest.mark.slow
def test_a_choice_of_options_is_not_made_again(stopped, small_run, tmp_path, monkeypatch):
    options = {"method": "finetune", "config": None, "trials": 2, "reference": "none"}
    expected = small_run(out=tmp_path / "whole", **options).folder
    stopped(kill_in_phase("unlearn (finetune)", 0), **options)
    monkeypatch.setattr(tuning, "select", killed)
    ltu_jax.resume(tmp_path / "run", data=tiny.table(), quiet=True)
    found, whole = (
        json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "run", expected)
    )
    assert found["config"] == whole["config"]
    assert "among 2 trials" in found["config"]["options chosen"]
    assert load_spec(tmp_path / "run").options == load_spec(expected).options
    load_plan(tmp_path / "run", InMemory(tiny.table()))


def test_what_is_not_an_unfinished_run_is_refused(stopped, complete, tmp_path):
    def refused(function, *arguments, **options):
        with pytest.raises(InputError) as caught:
            function(*arguments, **options)
        assert caught.value.argument == "run"
        return str(caught.value)

    assert "holds no run (run.json: " in refused(ltu_jax.resume, tmp_path)
    assert "is finished" in refused(ltu_jax.resume, complete.folder)
    folder = stopped("audit")
    assert "unfinished" in refused(load_plan, folder, InMemory(tiny.table()))
    with pytest.raises(InputError, match="was made in Python"):
        ltu_jax.resume(folder)
    settings = RunFolder(folder).spec
    settings.write_text(settings.read_text().replace('"momentum": 0.9', '"momentum": 0.8'))
    assert "run.json" in refused(ltu_jax.resume, folder, data=tiny.table())


@pytest.mark.slow
def test_another_checkpoint_than_at_the_start_is_refused(stopped, complete, tmp_path):
    given = tmp_path / "given"
    os.symlink(complete.folder / "original", given)
    folder = stopped("report", checkpoint=given, reference="none")
    given.unlink()
    os.symlink(complete.folder / "retrain", given)
    with pytest.raises(InputError, match=r"^checkpoint: .*given has changed"):
        ltu_jax.resume(folder, data=tiny.table())
    given.unlink()
    os.symlink(complete.folder / "original", given)
    result = ltu_jax.resume(folder, data=tiny.table(), quiet=True)
    jax.tree.map(np.testing.assert_array_equal, result.unlearned, complete.unlearned)


@pytest.mark.slow
def test_a_run_that_never_began_is_started_again(stopped, small_run, complete):
    folder = stopped(lambda patched: patched.setattr(loading, "data_digest", killed))
    assert {path.name for path in folder.iterdir()} == {"running", "request.json", "split.npz"}
    assert contents(small_run(out=folder)) == contents(complete)


COMMAND = ["unlearn", "--data", "tests.tiny:table", "--epochs", "2", "--reference", "none"]
COMMAND += ["--method", "finetune", "--out", "run", "--quiet"]


@pytest.mark.slow
def test_the_command_line_stops_at_sigterm_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(
            pipeline, "measure_models", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)
        )
        with pytest.raises(SystemExit) as stop:
            main(COMMAND)
    assert stop.value.code == 143
    for command, code in (
        (["unlearn", "--resume", "run", "--seed", "0", "--epochs", "3"], 2),
        (["ensemble", "--run", "run"], 2),
        (["audit", "run"], 2),
        (["unlearn", "--resume", "gone"], 2),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as refused:
            main(command)
        assert refused.value.code == code
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1
    main(["unlearn", "--resume", "run", "--quiet"])
    assert "run/report.html" in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["run"]["command"] == "ltu " + " ".join(COMMAND)


@pytest.mark.parametrize("every", ["0", "-1"])
def test_steps_between_checkpoints_must_be_above_zero(every, capsys):
    with pytest.raises(SystemExit) as refused:
        main([*COMMAND, "--save-every", every])
    assert refused.value.code == 2
    assert capsys.readouterr().err == (
        f"error: --save-every: is {every}; give a number of steps above 0\n"
    )
