"""The audit of a run's outputs, given as a file, has the numbers of the run's own report."""

import json
import shutil

import numpy as np
import pytest

import ltu_jax
from ltu_jax.cli import main
from ltu_jax.runs import ensembles
from ltu_jax.runs.audit import audit_run
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.outputs import audit_outputs, write_outputs
from ltu_jax.runs.spec import InMemory
from tests import tiny
from tests.refusals import refused

OF_THE_MODEL = {"weights", "relearn", "relearn_steps", "relearn_losses"}


def same_rows(run, outputs):
    kept = [{k: v for k, v in row.items() if k != "attack_success"} for row in run]
    assert kept == [{k: v for k, v in row.items() if k != "attack_success"} for row in outputs]


@pytest.fixture(scope="module")
def folder(complete, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "run"
    shutil.copytree(complete.folder, folder)
    return folder


@pytest.mark.slow
def test_numbers_of_outputs_are_those_of_the_run_to_the_last_digit(folder, tmp_path):
    own = audit_run(folder, data=tiny.table(), quiet=True)
    write_outputs(folder, tmp_path / "table.npz", data=tiny.table())
    found = audit_outputs(tmp_path / "table.npz", out=tmp_path / "audit")
    run, outputs = (
        json.loads((place / "report.json").read_text()) for place in (folder, tmp_path / "audit")
    )
    same_rows(run["rows"], outputs["rows"])
    for name in ("auc_band", "class_accuracy", "class_names", "attacks", "seeds"):
        assert run[name] == outputs[name], name
    assert run["run"]["sizes"] == outputs["run"]["sizes"]
    assert own["population"] == found["population"]
    by_outputs = [
        {k: v for k, v in row.items() if k not in OF_THE_MODEL} for row in own["distances"]
    ]
    assert by_outputs == found["distances"]
    assert any("weights" in text for text in found["left_out"])
    scores, written = (np.load(place / "scores.npz") for place in (folder, tmp_path / "audit"))
    assert set(scores) == set(written)
    assert all(np.array_equal(scores[name], written[name]) for name in scores)


@pytest.mark.slow
def test_numbers_of_ensembles_are_those_of_the_run_to_the_last_digit(folder, tmp_path):
    plan = load_plan(folder, InMemory(tiny.table()))
    types = ("retrain", "unlearned", "shadow_unlearned", "shadow_retrain")
    list(ensembles.make_ensembles(plan, types, 8, tmp_path / "made", quiet=True))
    own = audit_run(folder, ensembles=tmp_path / "made", data=tiny.table(), quiet=True)
    given = tmp_path / "table.npz"
    write_outputs(folder, given, ensembles=tmp_path / "made", data=tiny.table())
    found = audit_outputs(given, out=tmp_path / "audit")
    for name in ("distinguishing", "per_example", "tests"):
        assert own[name] == found[name], name
    assert own["ensembles"].keys() == found["ensembles"].keys()


def test_the_file_is_named_before_anything_is_computed(folder, tmp_path):
    with refused("write_outputs"):
        write_outputs(folder, tmp_path / "table.csv", data=tiny.table())
    with refused("run"):
        write_outputs(tmp_path, tmp_path / "table.npz")


def outputs_of(tmp_path, **arrays):
    rng = np.random.default_rng(0)
    made = {
        "labels": rng.integers(0, 3, 90),
        "part": np.repeat(["forget", "retain", "test"], 30),
        "original": rng.normal(size=(90, 3)),
        "unlearned": rng.normal(size=(90, 3)),
        **arrays,
    }
    np.savez(tmp_path / "some.npz", **made)
    return tmp_path / "some.npz"


def test_warnings_are_in_the_report(tmp_path):
    half = np.random.default_rng(1).normal(size=(90, 3)).astype(np.float16)
    out = tmp_path / "audit"
    found = ltu_jax.audit_outputs(outputs_of(tmp_path, unlearned=half), out=out)
    report = json.loads((out / "report.json").read_text())
    assert len(report["run"]["warnings"]) == 1
    assert report["run"]["warnings"][0] in (out / "report.html").read_text()
    assert found["left_out"]
    assert all(text in (out / "report.html").read_text() for text in found["left_out"])
    assert report["run"]["sha256"]["outputs"]


def test_the_command_prints_verdict_and_place(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["audit", "--outputs", str(outputs_of(tmp_path)), "--seed", "3"])
    shown = capsys.readouterr().out
    (page,) = tmp_path.glob("runs/*/report.html")
    assert str(page.relative_to(tmp_path)) in shown
    assert "Cannot tell" in shown
    report = json.loads((page.parent / "report.json").read_text())
    assert report["seeds"] == {"run": 3}
    assert report["run"]["command"].startswith("ltu audit --outputs ")


def test_the_command_refuses_bad_outputs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = outputs_of(tmp_path, labels=np.full(90, 3))
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "--outputs", str(path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: --outputs: ")
    assert list(tmp_path.iterdir()) == [path]


def test_bad_outputs_leave_no_folder(tmp_path):
    bad = np.full((90, 3), np.nan)
    with refused("outputs"):
        ltu_jax.audit_outputs(outputs_of(tmp_path, unlearned=bad), out=tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_tables_have_no_empty_columns(tmp_path):
    out = tmp_path / "audit"
    ltu_jax.audit_outputs(outputs_of(tmp_path), out=out)
    page = (out / "report.html").read_text()
    assert "Distances from Retrain</h3>" not in page
    assert "LiRA with reference models" not in page
    assert "drop from the original model" in page
