"""The next request goes on from the last network, and nothing forgotten earlier comes back."""

import json
import shutil

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError, TamperedError
from ltu_jax.runs import models, pipeline
from ltu_jax.runs.audit import audit_run
from ltu_jax.runs.folder import RunFolder, RunState
from ltu_jax.runs.loading import load_plan, load_spec
from ltu_jax.runs.sequential import ledger
from ltu_jax.runs.sequential import unlearn_next as sequential
from ltu_jax.runs.sequential.drift import recommend
from ltu_jax.runs.sequential.ledger import read
from ltu_jax.runs.spec import InMemory
from ltu_jax.training.checkpoint import restore
from tests import tiny
from tests.runs.test_resume_run import Killed, killed

SECOND = ["patient-0001", "patient-0002", "patient-0013"]
TABLE = tiny.table()


def leaves(variables):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]


def unlearn_next(run, forget, **options):
    return ltu_jax.unlearn_next(
        run, forget, **{"data": tiny.table(), "quiet": True, "reference": "none", **options}
    )


def copied(run, folder):
    """Return a copy of a run that no other goes on from."""
    shutil.copytree(run, folder)
    RunFolder(folder).continued.unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def first(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("chain") / "first"
    return small_run(out=out, method="finetune", config=None, reference="none")


@pytest.fixture(scope="module")
def second(first):
    """The second run of the chain, with references."""
    out = first.folder.parent / "second"
    return unlearn_next(first.folder, SECOND, reference="retrain", out=out)


def test_the_second_run_starts_from_the_first_ones_result(first, second):
    for folder, name in ((first.folder, "unlearned"), (second.folder, "original")):
        stored = restore(folder / name, first.unlearned)
        for one, other in zip(leaves(stored), leaves(first.unlearned)):
            np.testing.assert_array_equal(one, other)
    assert list(second.metrics) == ["original", "retrain", "retrain_2", "unlearned"]
    assert all(row.avg_gap is not None for row in second.metrics.values())
    left = np.delete(TABLE.train_ids, range(0, 120, 10))
    assert set(left[second.split.forget]) == set(SECOND)
    assert len(second.split.retain) == 120 - 12 - 3


def test_its_ledger_is_the_firsts_and_one_entry(first, second):
    before, entries = ledger.read(first.folder), ledger.read(second.folder)
    assert entries[:1] == before
    assert len(entries) == 2
    assert entries[1]["forgotten"]["count"] == 3
    assert ledger.verify(first.folder) == ledger.verify(second.folder) == []
    salts = json.loads(RunFolder(second.folder).salts.read_text())
    for entry, ids in zip(entries, (tiny.FORGOTTEN, SECOND)):
        digest = ledger.hash_ids(ids, salts[str(entry["entry"])])
        assert digest == entry["forgotten"]["hmac_sha256"]


def test_the_report_tells_of_everything_forgotten_so_far(second):
    report = json.loads((second.folder / "report.json").read_text())
    drift = report["ledger"]["drift"]
    assert (drift["forgotten"], drift["earlier"]) == (15, 12)
    assert set(drift["models"]) == {"original", "retrain", "retrain_2", "finetune"}
    assert report["run"]["sizes"]["train"] == 108
    page = (second.folder / "report.html").read_text(encoding="utf-8")
    assert "Earlier requests removed 12 other examples" in page
    assert "The rule: retrain if test accuracy has fallen by more than 2.0 points" in page
    assert ledger.read(second.folder)[-1]["sha256"] in page
    assert "patient-" not in page


def test_utility_adds_up_over_requests(first, second):
    changes = [entry["drift"]["utility_change"] for entry in ledger.read(second.folder)]
    found = ledger.read(second.folder)[-1]["drift"]["utility_since_training"]
    assert found == pytest.approx(sum(changes))
    assert found == pytest.approx(second.metrics["unlearned"].ta - first.metrics["original"].ta)


def test_nothing_that_is_computed_sees_what_was_forgotten(first, tmp_path, monkeypatch):
    """What the method and the references get, at the places where they get it."""
    gone = {row.tobytes() for row in TABLE.train.inputs[::10]}
    seen = {}

    def keep(name, examples):
        seen[name] = {np.asarray(row).tobytes() for row in np.asarray(examples.inputs)}

    def train(model, examples, recipe, **options):
        keep(f"train {len(seen)}", examples)
        return model.init(options["key"], examples.inputs[:1]), {}

    run_unlearner = models.run_unlearner

    def unlearner(method, original, data, **options):
        for name, examples in data._asdict().items():
            keep(name, examples)
        return run_unlearner(method, original, data, **options)

    monkeypatch.setattr(models, "train", train)
    monkeypatch.setattr(models, "run_unlearner", unlearner)
    run = copied(first.folder, tmp_path / "first")
    unlearn_next(run, SECOND, reference="retrain", out=tmp_path / "second")
    assert sorted(map(len, seen.values())) == [3, 24, 31, 105, 105]
    assert all(not rows & gone for rows in seen.values())


def test_an_id_that_was_forgotten_before_is_refused_with_date_and_run(first, second, monkeypatch):
    monkeypatch.setattr(sequential, "carry_out", killed)
    for ids, runs in (
        (["patient-0010", "patient-0005"], [first]),
        ([SECOND[0], "patient-0005"], [second]),
        ([SECOND[0], "patient-0010"], [second, first]),
    ):
        dates = [f"on {read(one.folder)[-1]['time'][:10]} in {one.folder}" for one in runs]
        with pytest.raises(InputError) as caught:
            unlearn_next(second.folder, [*ids, f" {ids[0]}"])
        assert caught.value.argument == "forget"
        assert f"({', '.join(dates)})" in caught.value.problem
    with pytest.raises(InputError, match="2 of 3 ids were forgotten by an earlier request: 'pat"):
        unlearn_next(second.folder, ["patient-0010", "patient-0003", "patient-0013"])
    with pytest.raises(InputError, match="1 of 2 ids are not in the training set: 'nobody'"):
        unlearn_next(second.folder, ["nobody", "patient-0003"])
    with pytest.raises(InputError) as caught:
        unlearn_next(second.folder, None)
    assert caught.value.argument == "forget"
    assert not RunFolder(second.folder).continued.exists()


def test_a_run_is_gone_on_from_once(first, second):
    with pytest.raises(InputError, match=rf"^run: .*continued before; give {second.folder}"):
        unlearn_next(first.folder, ["patient-0003"])
    assert sequential.newest(first.folder).path == second.folder


def test_a_run_whose_ledger_was_edited_is_not_gone_on_from(second, tmp_path):
    run = copied(second.folder, tmp_path / "run")
    path = RunFolder(run).ledger
    path.write_text(path.read_text().replace('"count":3', '"count":4'))
    with pytest.raises(TamperedError, match="entry 2: its content does not have its SHA-256"):
        unlearn_next(run, ["patient-0003"])


def test_the_run_is_read_back_with_its_past(second):
    read = load_plan(second.folder, InMemory(tiny.table()))
    for one, other in zip(read.split, second.split):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(read.earlier.inputs, TABLE.train.inputs[::10])
    assert len(read.dataset.train.labels) == 108


def test_an_audit_of_a_later_run_keeps_its_ledger(second, tmp_path):
    run = copied(second.folder, tmp_path / "run")
    found = audit_run(run, data=tiny.table(), quiet=True)
    assert [row["model"] for row in found["population"]][-1] == "finetune"
    assert ledger.verify(run) == []
    assert "Earlier requests" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        (models, "run_unlearner"),
        (pipeline, "record"),
        (RunState, "end"),
    ],
    ids=["method", "ledger", "end"],
)
def test_a_killed_run_is_resumed_with_its_past(first, tmp_path, monkeypatch, moment):
    run, out = copied(first.folder, tmp_path / "first"), tmp_path / "second"
    with monkeypatch.context() as patched:
        patched.setattr(*moment, killed)
        with pytest.raises(Killed):
            unlearn_next(run, SECOND, out=out)
    with pytest.raises(InputError, match=rf"^run: .*continued by {out}, which is unfinished"):
        unlearn_next(run, ["patient-0003"])
    result = ltu_jax.resume(out, data=tiny.table(), quiet=True)
    assert [entry["entry"] for entry in ledger.read(out)] == [1, 2]
    assert ledger.verify(out) == []
    assert len(result.split.retain) == 105
    assert json.loads((out / "report.json").read_text())["ledger"]["drift"]["earlier"] == 12
    assert not (out / "running").exists()


def test_another_method_and_share_for_the_next_request(first, tmp_path):
    run = copied(first.folder, tmp_path / "first")
    out = tmp_path / "anew"
    result = unlearn_next(run, SECOND, method="retrain_accessible", retain_fraction=1.0, out=out)
    assert len(result.split.accessible) == 105
    drift = ledger.read(out)[-1]["drift"]
    assert drift["utility_since_training"] == 0
    assert drift["sentence"].startswith("The model was retrained.")
    assert load_spec(out).retain_fraction == 1.0


FOUND = {"utility_since_training": -1.0, "auc": 50.0, "band": [45.0, 55.0], "tested": 300}


@pytest.mark.parametrize(
    ("changed", "expected", "words"),
    [
        ({}, False, "not recommended. The rule"),
        ({"utility_since_training": -2.5}, True, "recommended: test accuracy has fallen by 2.5"),
        ({"auc": 56.0}, True, "is 56.0, outside the interval 45.0 to 55.0 of"),
        ({"auc": 44.0}, True, "is 44.0, outside the interval 45.0 to 55.0 of"),
        ({"auc": 60.0, "band": None}, False, "this half of the rule does not apply"),
    ],
)
def test_the_rule(changed, expected, words):
    said = recommend({"forgotten": 40, **FOUND, **changed})
    assert said["retrain"] is expected
    assert words in said["sentence"]
    assert "2.0 points since the last training" in said["sentence"]


COMMAND = ["unlearn", "--data", "tests.tiny:table", "--epochs", "2", "--reference", "none"]
COMMAND += ["--method", "finetune", "--forget-class", "ill", "--out", "run", "--quiet"]


@pytest.mark.slow
def test_the_command_line_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(COMMAND)
    (tmp_path / "next.txt").write_text("\n".join(["patient-0000", "patient-0002"]))
    (tmp_path / "ill.txt").write_text("patient-0000\npatient-0001\n")
    follow = ["unlearn", "--run", "run", "--forget-ids", "next.txt"]
    for arguments, fragment in (
        (["unlearn", "--run", "run"], "error: --forget-ids: is missing"),
        ([*follow, "--seed", "1"], "error: --run: is run, which decides --seed;"),
        ([*follow, "--data", "cifar10", "--model", "cnn"], "which decides --data, --model;"),
        (["unlearn", "--run", "run", "--forget-ids", "ill.txt"], "1 of 2 ids were forgotten by an"),
        (["unlearn", "--run", "run", "--forget-class", "ill"], "1 of 1 classes were forgotten by"),
        (
            ["unlearn", "--run", "gone", "--forget-ids", "next.txt"],
            "error: --run: gone holds no run",
        ),
        (
            [*follow, "--resume", "run"],
            "error: --resume: is run, which decides --forget-ids, --run;",
        ),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as refused:
            main(arguments)
        assert refused.value.code == 2
        shown = capsys.readouterr()
        assert fragment in shown.err
        assert shown.err.count("\n") == 1
    main([*follow, "--reference", "none", "--quiet"])
    assert "runs/table-finetune-001/report.html" in capsys.readouterr().out
    main(["ledger", "verify", "runs/table-finetune-001"])
    assert "2 entries, nothing was edited" in capsys.readouterr().out
    main(["ledger", "show", "runs/table-finetune-001"])
    assert "this half of the rule does not apply" in " ".join(capsys.readouterr().out.split())
