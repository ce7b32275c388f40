"""What a result, an audit and a data set show in a notebook and in an interpreter."""

import pytest

from ltu_jax.report import notebook
from ltu_jax.report.verdict import verdict
from tests import tiny

from .audit.made_up_audit import make_audit
from .conftest import make_content

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def hostile():
    content = make_content()
    rows = [*content.rows[:-1], {**content.rows[-1], "model": HOSTILE}]
    return content._replace(rows=rows, run={**content.run, "method": HOSTILE})


def test_a_result_shows_its_table_and_its_verdict(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    content = make_content()
    text = notebook.result_text(content, "RUN/report.html")
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 25
    assert "\x1b" not in text
    said = " ".join(text.split())
    assert " ".join(verdict(content).sentence.split()) in said
    for shown in ("Second Retrain", "LTU", "39.5", "RUN/report.html"):
        assert shown in said
        assert shown in notebook.result_html(content, "RUN/report.html")


def test_without_retrain_there_are_no_gaps():
    content = make_content(models=("original", "ltu"), auc_band=None)
    for shown in (notebook.result_text(content, "p"), notebook.result_html(content, "p")):
        assert "gap" not in shown.replace("percentage points", "")
        assert "Cannot tell" in shown


def test_html_is_escaped(hostile):
    shown = notebook.result_html(hostile, HOSTILE)
    assert "<script" not in shown
    assert shown.count("&lt;script") >= 2


def test_an_audit_shows_its_verdict_and_one_table():
    audit = {**make_audit(), "method": "ltu"}
    assert len(notebook.audit_text(audit).splitlines()) < 40
    assert "xact unlearning" in notebook.audit_text(audit)
    assert notebook.audit_html(audit).count("<table>") == 1


def test_a_data_set_shows_its_sizes_and_none_of_its_values():
    data = tiny.table()
    for shown in (repr(data), data._repr_html_()):
        assert "120" in shown
        assert "site" in shown
        assert "north" not in shown
        assert "patient-" not in shown
    assert len(repr(data).splitlines()) < 10
