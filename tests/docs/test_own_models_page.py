"""The page on own models is executed from top to bottom, as its reader would."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CODE = re.findall(
    r"```python\n(.*?)```", (DOCS / "own_models.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.mark.docs
def test_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "page"}
    for code in CODE:
        exec(code, scope)
    assert sorted(path.name for path in (tmp_path / "CKPT").iterdir())
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 7


def test_every_file_it_points_at_is_there():
    text = (DOCS / "own_models.md").read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith("http")]
    assert [target for target in targets if not (DOCS / target).exists()] == []
