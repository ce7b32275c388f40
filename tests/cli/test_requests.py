"""Requests on the command line: several groups, persons with several records, private values."""

import json
from pathlib import Path

import numpy as np
import pytest

import ltu_jax
from ltu_jax.cli.flags import without_values
from ltu_jax.cli.main import main
from tests import tiny

PERSONS = [f"Ada-{i // 3}-Secret" for i in range(120)]


def table():
    """The tiny table with a column of persons, who have three rows each."""
    return tiny.table(groups={"person": PERSONS, "age": np.arange(120) % 50})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a small deletion; return its folder."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments):
        usual = ["--data", "tests.cli.test_requests:table", "--method", "nothing"]
        usual += ["--reference", "none", "--epochs", "1", "--quiet", "--out", "run"]
        main(["unlearn", *usual, *arguments])
        return tmp_path / "run"

    return of


def forgotten(folder):
    return np.load(folder / "split.npz")["forget"].tolist()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--forget-ids", "who.csv", "--id-column", "person"],
        ["--forget-ids", "who.txt", "--forget-id-column", "person"],
        ["--forget-group", "person=Ada-1-Secret", "person= Ada-4-Secret"],
        ["--forget-group=person=Ada-1-Secret", "person=Ada-4-Secret"],
    ],
)
def test_a_persons_rows_are_selected_and_the_person_is_in_no_file(run, tmp_path, arguments):
    (tmp_path / "who.csv").write_text("visit,person\n1,Ada-1-Secret\n2,Ada-4-Secret\n")
    (tmp_path / "who.txt").write_text("Ada-1-Secret\nAda-4-Secret\n")
    folder = run(*arguments)
    assert forgotten(folder) == [3, 4, 5, 12, 13, 14]
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"Secret" not in path.read_bytes(), path
    request = json.loads((folder / "request.json").read_text())
    assert (request["column"], request["count"]) == ("person", 2)
    modes = {path.name: path.stat().st_mode & 0o077 for path in folder.glob("*.npz")}
    assert modes["split.npz"] == 0


@pytest.mark.parametrize("age", ["7", "007", "7.0"])
def test_numbers_on_the_command_line_have_no_type(run, age):
    folder = run("--forget-group", f"age={age}", "age=8")
    assert forgotten(folder) == [7, 8, 57, 58, 107, 108]
    warnings = json.loads((folder / "report.json").read_text())["run"]["warnings"]
    assert sum("differ" in text for text in warnings) == (age != "7")


def test_a_run_of_a_group_is_resumed_without_its_values(tmp_path, monkeypatch):
    from ltu_jax.runs import pipeline
    from tests.runs.test_resume_run import Killed, killed

    asked = ltu_jax.by_ids(["Ada-2-Secret", "Ada-0-Secret"], column="person")
    made = {"data": table(), "method": "nothing", "reference": "none", "epochs": 1, "quiet": True}
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "measure_models", killed)
        with pytest.raises(Killed):
            ltu_jax.unlearn(forget=asked, out=tmp_path / "run", **made)
    result = ltu_jax.resume(tmp_path / "run", data=table(), quiet=True)
    assert result.split.forget.tolist() == [0, 1, 2, 6, 7, 8]
    assert b"Secret" not in b"".join(p.read_bytes() for p in Path(result.folder).glob("*.json"))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--forget-group a=b", "--forget-group a=VALUE"),
        ("--forget_group=a=b=c d=e --out f=g", "--forget_group=a=VALUE d=VALUE --out f=g"),
        ("--forget-ids a=b", "--forget-ids a=b"),
    ],
)
def test_values_are_left_out_of_command_lines(line, shown):
    assert without_values(line.split()) == shown.split()
