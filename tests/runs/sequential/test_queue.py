"""Queued requests are answered together, none of them is lost, and their ids do not stay."""

import shutil
import threading

import pytest

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError
from ltu_jax.runs import pipeline
from ltu_jax.runs.folder import RunFolder, RunState
from ltu_jax.runs.sequential import ledger
from ltu_jax.runs.sequential import queue as pending
from ltu_jax.runs.sequential import unlearn_next as sequential
from tests import tiny
from tests.runs.test_resume_run import Killed, killed

ONE, TWO = ["patient-0001", "patient-0002"], ["patient-0003"]


@pytest.fixture(scope="module")
def finished(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("queued") / "run"
    return small_run(out=out, method="finetune", config=None, reference="none").folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run, with two requests in its queue."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    add(folder, ONE)
    add(folder, TWO)
    return folder


def add(run, ids):
    return pending.add(run, ids, data=tiny.table())


def serve(run, **options):
    return pending.complete(
        run, **{"data": tiny.table(), "quiet": True, "reference": "none"} | options
    )


def ids_on_disk(folder):
    return [p for p in folder.rglob("*") if p.is_file() and b"patient-" in p.read_bytes()]


def test_pending_requests_are_answered_by_one_deletion(run, tmp_path):
    waiting = pending.show(run)
    assert [one.ids for one in waiting] == [ONE, TWO]
    assert (run / "queue.sqlite").stat().st_mode & 0o077 == 0
    result = serve(run, out=tmp_path / "next")
    assert len(result.split.forget) == 3
    entry = ledger.read(tmp_path / "next")[-1]
    assert entry["completed"] == [one.name for one in waiting]
    assert (entry["entry"], entry["forgotten"]["count"]) == (2, 3)
    assert ledger.verify(tmp_path / "next") == []
    assert pending.show(run) == []
    assert ids_on_disk(tmp_path) == []


@pytest.mark.slow
def test_the_queue_of_the_first_run_serves_the_whole_chain(run, tmp_path):
    serve(run, out=tmp_path / "second")
    with pytest.raises(
        InputError, match="1 of 1 ids were forgotten by an earlier request: 'patien"
    ):
        add(run, TWO)
    add(run, ["patient-0004"])
    serve(run, out=tmp_path / "third")
    assert sequential.newest(run).path == tmp_path / "third"
    assert [entry["entry"] for entry in ledger.read(tmp_path / "third")] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        (pending, "unlearn_next"),
        (sequential, "save_plan"),
        (pipeline, "measure_models"),
        (RunState, "end"),
        (pending, "delete_completed"),
    ],
    ids=["before it begins", "as it begins", "midway", "at its end", "before files are deleted"],
)
def test_whatever_happens_nothing_is_lost(run, tmp_path, monkeypatch, moment):
    out = tmp_path / "next"
    with monkeypatch.context() as patched:
        patched.setattr(*moment, killed)
        with pytest.raises(Killed):
            serve(run, out=out)
    waiting = pending.show(run)
    assert [(one.ids, one.in_batch) for one in waiting] == [(ONE, True), (TWO, True)]
    late = add(run, ["patient-0004"])  # waits for the next batch
    with pytest.raises(InputError, match=late.name[:2]):
        pending.remove(run, late.name[:2])
    with pytest.raises(InputError, match=r"^out: .*a deletion has begun in .*next"):
        serve(run, out=tmp_path / "other")
    result = serve(run)
    assert (result is None) == (moment[1] == "delete_completed")
    entries = ledger.read(out)
    assert entries[-1]["completed"] == [one.name for one in waiting]
    assert len(entries) == 2
    assert pending.show(run) == [late]


def test_what_is_refused_leaves_the_queue_as_it_was(run, tmp_path):
    before = pending.show(run)
    edited = RunFolder(run).ledger
    content = edited.read_bytes()
    edited.write_bytes(content.replace(b'"count":12', b'"count":13'))
    with pytest.raises(InputError, match="was edited"):
        serve(run, out=tmp_path / "next")
    assert pending.show(run) == before
    assert not (tmp_path / "next").exists()
    edited.write_bytes(content)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match=r"^out: .*taken holds another run"):
        serve(run, out=tmp_path / "taken")
    assert pending.show(run) == before


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["nobody"], "1 of 1 ids are not in the training set: 'nobody'"),
        (["patient-0010"], "1 of 1 ids were forgotten by an earlier request: 'patient-0010'"),
        ([], "selects none of the 108"),
        (ltu_jax.by_class("ill"), "^forget: is a class"),
    ],
)
def test_bad_requests_are_not_filed(run, ids, message):
    with pytest.raises(InputError, match=message):
        add(run, ids)
    assert len(pending.show(run)) == 2


def test_the_queue_keeps_the_ids_of_the_data_set(run):
    added = add(run, [" patient-0005", "patient-0005", "patient-0006"])
    assert added.ids == ["patient-0005", "patient-0006"]
    south = add(run, ltu_jax.by_ids(["south"], column="site"))
    assert south.ids == [f"patient-{i:04d}" for i in range(4, 120, 5)]


def test_overlapping_requests_are_noted_and_each_id_is_forgotten_once(run, tmp_path, caplog):
    add(run, [*TWO, "patient-0004"])
    assert "1 of 2 ids are pending already" in caplog.text
    result = serve(run, out=tmp_path / "next")
    assert len(result.split.forget) == 4
    assert len(ledger.read(tmp_path / "next")[-1]["completed"]) == 3


def test_requests_of_many_clerks_at_once_are_all_kept(run):
    clerks = [threading.Thread(target=add, args=(run, [f"patient-{i:04d}"])) for i in range(3, 9)]
    for clerk in clerks:
        clerk.start()
    for clerk in clerks:
        clerk.join()
    names = [one.name for one in pending.show(run)]
    assert len(names) == len(set(names)) == 8


@pytest.mark.slow
def test_ids_that_another_deletion_forgot_do_not_block_the_queue(run, tmp_path):
    options = {"data": tiny.table(), "quiet": True, "reference": "none"}
    sequential.unlearn_next(run, ONE, out=tmp_path / "direct", **options)
    result = serve(run, out=tmp_path / "next")
    assert len(result.split.forget) == len(TWO)
    with pytest.raises(InputError, match="no pending"):
        serve(run)


def test_a_queue_whose_ids_are_all_forgotten_is_emptied(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "_ids_of", lambda *args: [])
    assert serve(run, out=tmp_path / "next") is None
    assert pending.show(run) == []
    assert not (tmp_path / "next").exists()


def test_a_request_is_removed_by_its_name(run, tmp_path, monkeypatch):
    first, second = pending.show(run)
    for name in ("", "20", "gone"):
        with pytest.raises(InputError) as caught:
            pending.remove(run, name)
        assert caught.value.argument == "request"
    assert pending.remove(run, first.name[:-1]) == first
    assert pending.show(run) == [second]
    monkeypatch.setattr(sequential, "save_plan", killed)
    with pytest.raises(Killed):
        serve(run, out=tmp_path / "next")  # the deletion has no specification yet
    assert pending.remove(run, second.name).in_batch
    assert pending.show(run) == []


def test_a_deletion_that_has_begun_keeps_its_requests(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "measure_models", killed)
    with pytest.raises(Killed):
        serve(run, out=tmp_path / "next")
    with pytest.raises(InputError, match="has begun"):
        pending.remove(run, pending.show(run)[0].name)


@pytest.mark.parametrize("content", [b"not a database" * 99, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_queue_is_named(run, content):
    (run / "queue.sqlite").write_bytes(content)
    with pytest.raises(InputError) as caught:
        pending.show(run)
    assert caught.value.argument == "run"
    assert "queue.sqlite" in caught.value.problem


@pytest.mark.slow
def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.csv").write_text("name,age\npatient-0001,7\npatient-0002,8\n")

    def refused(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["queue", *arguments])
        shown = capsys.readouterr()
        assert (stopped.value.code, shown.err.count("\n")) == (2, 1)
        return shown.err

    assert "holds no" in refused("add", "gone", "--forget-ids", "ids.csv", *COLUMN)
    assert "error: RUN: gone holds no run" in refused("show", "gone")
    main([*BEGIN, "--out", "first"])
    assert "error: RUN: first has no pending request" in refused("run", "first")
    assert "--forget-ids: is missing" in refused("add", "first")
    assert "--forget-ids: is not for ltu queue run" in refused("run", "first", *IDS)
    assert "--out: is not for ltu queue show" in refused("show", "first", "--out", "x")
    main(["queue", "add", "first", *IDS, *COLUMN])
    assert ": 2 ids are pending." in capsys.readouterr().out
    main(["queue", "show", "first"])
    assert "1 pending, 2 ids in all." in capsys.readouterr().out
    main(["queue", "add", "first", *IDS, *COLUMN])
    assert "--request: is missing" in refused("remove", "first")
    newest = pending.show("first")[-1].name
    main(["queue", "remove", "first", "--request", newest])
    main(["queue", "run", "first", "--reference", "none", "--quiet"])
    assert "runs/first-queue-001/report.html" in capsys.readouterr().out
    main(["ledger", "show", "runs/first-queue-001"])
    assert "Entry 2 completed 20" in capsys.readouterr().out


IDS, COLUMN = ["--forget-ids", "ids.csv"], ["--forget-id-column", "name"]
BEGIN = ["unlearn", "--data", "tests.tiny:table", "--epochs", "2", "--reference", "none"]
BEGIN += ["--method", "finetune", "--forget-class", "healthy", "--quiet"]
