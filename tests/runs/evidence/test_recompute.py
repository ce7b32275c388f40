"""A report's numbers are found again in its outputs and in its checkpoints; edits are named."""

import json
import shutil

import numpy as np
import pytest

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.runs.evidence import verify_run
from ltu_jax.runs.folder import RunFolder
from tests import tiny
from tests.refusals import refused


@pytest.fixture(scope="module")
def finished(small_run):
    """A run with both Retrains, made by a method that takes a moment."""
    run = small_run(method="finetune", config=None, epochs=1).folder
    ltu_jax.audit_run(run, data=tiny.table(), quiet=True)
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def edit(run, change):
    path = RunFolder(run).report
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def names(found):
    return [check.name for check in found.different]


def test_stored_outputs_give_every_number_to_the_last_digit(finished):
    found = verify_run(finished, tolerance=0)
    assert {check.agreement for check in found.checks} == {"equal"}
    compared = {check.name for check in found.checks}
    for model in ("original", "retrain", "retrain_2", "finetune"):
        for metric in ("ua", "ra", "ta", "mia", "auc", "ks", "avg_gap", "gaps.mia"):
            assert f"rows.{model}.{metric}" in compared
    assert {"auc_band.0", "auc_band.1"} <= compared
    assert [sentence.split(":")[0] for sentence in found.unchecked] == ["class_accuracy", "audit"]


def test_checkpoints_give_every_number_and_the_audit(finished):
    found = verify_run(finished, full=True, data=tiny.table())
    assert found.different == found.unchecked == []
    compared = {check.name.split(".")[0] for check in found.checks}
    assert compared == {"rows", "auc_band", "class_accuracy", "audit"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda report: report["rows"][-1].update(ua=0.1), "rows.finetune.ua"),
        (lambda report: report["rows"][0].update(auc=50.0), "rows.original.auc"),
        (lambda report: report["rows"][-1]["gaps"].update(mia=0.25), "rows.finetune.gaps.mia"),
        (lambda report: report["auc_band"].reverse(), "auc_band.0"),
        (lambda report: report["rows"].pop(1), "rows.retrain"),
    ],
)
def test_an_edited_number_is_named(run, change, name):
    edit(run, change)
    assert name in names(verify_run(run))


def test_edited_outputs_are_named_and_the_command_line_ends_with_1(run, capsys):
    path = RunFolder(run).scores
    with np.load(path) as arrays:
        scores = dict(arrays)
    scores["finetune/forget_correct"] = 1 - scores["finetune/forget_correct"]
    np.savez_compressed(path, **scores)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(run)])
    shown = capsys.readouterr()
    assert stopped.value.code == 1
    assert "different: rows.finetune.ua" in shown.out
    assert shown.err.startswith("error: verify: ")
    assert "rows.finetune.ua" in shown.err


def test_the_command_line_counts_what_agrees(finished, capsys):
    main(["verify", str(finished)])
    assert " 0 differ." in capsys.readouterr().out


def test_a_report_of_other_checkpoints_is_found(run):
    shutil.rmtree(run / "unlearned")
    shutil.copytree(run / "retrain", run / "unlearned")
    assert verify_run(run).different == []
    found = names(verify_run(run, full=True, data=tiny.table()))
    assert any(name.startswith("rows.finetune.") for name in found)


def test_bad_input(run, tmp_path):
    with refused("run"):
        verify_run(tmp_path / "nothing")
    with refused("tolerance", "-1"):
        verify_run(run, tolerance=-1)
    with refused("ensembles"):
        verify_run(run, ensembles=tmp_path)
    with refused("data"):
        verify_run(run, full=True)
    path = RunFolder(run).scores
    with np.load(path) as arrays:
        scores = dict(arrays)
    del scores["retrain/members_confidence"]
    np.savez_compressed(path, **scores)
    with refused("run", "scores.npz"):
        verify_run(run)
    path.write_bytes(path.read_bytes()[:100])
    with refused("run"):
        verify_run(run)
