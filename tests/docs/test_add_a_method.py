"""The page on adding a method is executed as its reader would."""

import json
import re
from pathlib import Path

import pytest

from ltu_jax.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "add_a_method.md"


@pytest.fixture
def module(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "grad_diff.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return code


def test_the_method_takes_forty_lines(module):
    assert sum(bool(line.strip()) for line in module.splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.usefixtures("module")
def test_the_method_runs_like_any_other(tmp_path, capsys):
    options = ["--data", "tests.tiny:table", "--epochs", "2", "--forget-class", "ill"]
    options += ["--reference", "none", "--quiet", "--method", "grad_diff:METHOD"]
    main(["tune", *options, "--trials", "2", "--out", "out"])
    assert "grad_diff" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in report["rows"]] == ["original", "grad_diff"]
    tuning = json.loads((tmp_path / "out" / "tuning.json").read_text(encoding="utf-8"))
    assert len(tuning["trials"]) == 2
    assert report["run"]["options_chosen"] == "oracle_free"
