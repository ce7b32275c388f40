"""The tables of the pages are those of the committed results, between the right marks."""

import json
from pathlib import Path

import pytest

from experiments.lib import results_table
from experiments.lib.results_table import Block
from ltu_jax.report.comparison import table
from tests.report.comparison.test_table import CONFIG, ROWS

SOURCE = {
    "command": "python -m experiments.compare digits",
    "git": {"commit": "0123456789abcdef", "dirty": False},
    "versions": {"device": "1 x cpu (cpu)"},
}


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"config": CONFIG, "sources": [SOURCE], "rows": ROWS}))
    return path


def block(page, *results):
    return Block(page, "results", results, table.markdown)


def test_tables_tell_where_their_numbers_come_from(results):
    text = results_table.tables(block(None, results, results.with_name("missing.json")))
    assert "| `better` |" in text
    made_by = "Made by `python -m experiments.comparison.compare digits`"  # old command, new path
    assert text.endswith(f"{made_by} (commit `0123456`, 1 x cpu (cpu)).\n")
    dirty = {**SOURCE, "git": {"commit": "0123456789abcdef", "dirty": True}}
    assert "with changes not committed" in results_table.origin([SOURCE, dirty])
    assert "code outside git" in results_table.origin(
        [{**SOURCE, "git": {"commit": None, "dirty": None}}]
    )


def test_write_replaces_what_is_between_the_marks_and_nothing_else(tmp_path, results):
    page = tmp_path / "README.md"
    start, end = "<!-- results:start -->", "<!-- results:end -->"
    page.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    for _ in range(2):
        results_table.write([block(page, results)])
        marked = f"{start}\n{results_table.tables(block(page, results))}{end}"
        assert page.read_text() == f"before\n{marked}\nafter\n"


def test_a_page_without_marks_stays_as_it_is(tmp_path, results):
    page = tmp_path / "README.md"
    page.write_text("no marks\n")
    with pytest.raises(SystemExit, match="results:start"):
        results_table.write([block(page, results)])
    assert page.read_text() == "no marks\n"


@pytest.mark.parametrize(
    "block", results_table.BLOCKS, ids=lambda block: f"{block.path.name}-{block.name}"
)
def test_the_pages_show_the_results_that_are_committed(block):
    text = block.path.read_text(encoding="utf-8")
    assert results_table.replace_block(text, block.name, results_table.tables(block)) == text


def test_committed_rows_have_what_a_reader_needs():
    keys = ["method", "scenario", "train_seed", "unlearn_seed", "ua", "ra", "ta", "mia"]
    keys += ["avg_gap", "auc", "ks", "seconds", "selected_by"]
    for path in filter(Path.exists, results_table.BLOCKS[-1].results):
        results = json.loads(path.read_text(encoding="utf-8"))
        assert all(key in row for row in results["rows"] for key in keys)
        assert all(len(source["git"]["commit"]) == 40 for source in results["sources"])
