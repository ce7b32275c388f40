"""Pages whose code is one program are executed from top to bottom, as their reader would."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def code_of(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def execute(page):
    scope = {"__name__": "page"}
    for code in code_of(page):
        exec(code, scope)
    return scope


@pytest.mark.docs
def test_the_parts_work_in_ones_own_loop(capsys):
    execute("parts.md")
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.docs
def test_two_patients_are_forgotten_from_a_csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = execute("patients.md")
    assert scope["result"].content.run["sizes"]["forget"] == 6
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "patient-0" not in report


@pytest.mark.docs
@pytest.mark.parametrize(("number", "folder"), [(0, "sklearn-audit"), (1, "torch-audit")])
def test_any_model_is_audited_by_its_outputs(number, folder, tmp_path, monkeypatch):
    code = code_of("audit_any_model.md")[number]
    if "torch" in code:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "page"}
    exec(code, scope)
    assert (tmp_path / folder / "report.html").exists()
    assert scope["found"]["left_out"]


def test_ids_to_report_takes_fifteen_lines():
    assert len([line for line in code_of("patients.md")[-1].splitlines() if line.strip()]) <= 15
