"""The README's tables: means and intervals that can be checked by hand, between the right marks."""

import json

import pytest
from scipy import stats

from experiments import results_table

READING = {"ua": 10.0, "ra": 99.0, "ta": 90.0, "mia": 20.0, "avg_gap": 1.0, "auc": 52.0}


def _results(seeds=3, **config):
    rows = [
        {"scenario": "random", "seed": seed, "model": model, "seconds": 4.0 + seed, **READING}
        for seed in range(seeds)
        for model in ("original", "retrain", "retrain_2", "ltu")
    ]
    for row in rows:
        row["ua"] += 2 * (row["seed"] - 1)
    return {
        "config": {"data": "digits", "train_size": None, "model": "mlp", **config},
        "sources": [
            {
                "command": "python -m experiments.first_table",
                "git": {"commit": "0123456789abcdef", "dirty": False},
                "versions": {"device": "1 x cpu (cpu)"},
            }
        ],
        "rows": rows,
    }


def _write(path, results):
    path.write_text(json.dumps(results))
    return path


def test_the_interval_is_students():
    values = [8.0, 10.0, 12.0]
    low, high = stats.t.interval(0.95, 2, loc=10.0, scale=stats.sem(values))
    assert results_table.interval(values) == f"10.0 ± {(high - low) / 2:.1f}"
    assert results_table.interval([8.0]) == "8.0"
    assert results_table.interval([8.0, None]) == "–"


def test_a_table_has_a_line_per_model_with_mean_and_interval(tmp_path):
    text = results_table.tables([_write(tmp_path / "a.json", _results())])
    lines = text.splitlines()
    assert lines[0] == "**digits, mlp: a random tenth forgotten, 3 seeds**"
    body = [line for line in lines if line.startswith("| ")][1:]
    names = [line.split("|")[1].strip() for line in body]
    assert names == ["Original", "Retrain", "Second Retrain", "**LTU**"]
    cells = [cell.strip() for cell in body[3].strip("|").split("|")][1:]
    same = ("99.0", "90.0", "20.0", "1.0", "52.0")
    assert cells == ["10.0 ± 5.0", *(f"{value} ± 0.0" for value in same), "5.0"]
    assert "| target |" in body[1]
    assert all(line.count("|") == 9 for line in lines if line.startswith("|"))
    assert "commit `0123456`, 1 x cpu (cpu)" in lines[-1]


def test_size_changed_code_and_time_that_was_not_measured_are_told(tmp_path):
    results = _results(1, data="cifar10", train_size=10000, model="cnn")
    results["sources"][0]["git"]["dirty"] = True
    results["rows"][0]["seconds"] = None
    text = results_table.tables([_write(tmp_path / "a.json", results)])
    assert text.startswith("**cifar10, 10,000 images, cnn: a random tenth forgotten, 1 seed**")
    assert "with changes not committed" in text
    assert "| Original | 8.0 | 99.0 | 90.0 | 20.0 | 1.0 | 52.0 | – |" in text


def test_write_replaces_what_is_between_the_marks_and_nothing_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{results_table.START}\nold\n{results_table.END}\nafter\n")
    path = _write(tmp_path / "a.json", _results())
    for _ in range(2):
        missing = str(tmp_path / "no.json")
        results_table.main(["--write", "--readme", str(readme), "--results", str(path), missing])
        table = results_table.tables([path])
        marked = f"{results_table.START}\n{table}\n{results_table.END}"
        assert readme.read_text() == f"before\n{marked}\nafter\n"


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no marks\n")
    with pytest.raises(SystemExit, match="results:start"):
        results_table.main(["--write", "--readme", str(readme)])
    assert readme.read_text() == "no marks\n"


def test_the_readme_shows_the_results_that_are_committed():
    there = [path for path in results_table.RESULTS if path.exists()]
    if not there:
        pytest.skip("no results are committed")
    readme = (results_table.ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table.replace_block(readme, results_table.tables(there)) == readme
