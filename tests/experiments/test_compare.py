"""The script behind the README's comparisons: it goes on, collects, and names no folder of ours."""

import json
import shutil
from dataclasses import replace

import pytest

from experiments.comparison import compare
from ltu_jax import unlearners

pytestmark = pytest.mark.experiments

NAMES = ("digits", "cifar10")


@pytest.fixture
def small(tmp_path, monkeypatch):
    whole = replace(
        compare.COMPARISONS["digits"],
        out=tmp_path / "runs",
        cache=tmp_path / "cache",
        data="tests.tiny:table",
        epochs=1,
        methods=("finetune",),
        scenarios=("random_10", "class"),
        train_seeds=(0,),
        select="default",
    )
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    monkeypatch.setitem(compare.COMPARISONS, "digits", whole)
    return tmp_path / "experiments" / "results" / "compare_digits.json"


def test_parts_made_by_several_commands_are_collected(small, tmp_path, capsys):
    compare.main(["digits", "--scenarios", "class", "--data-dir", str(tmp_path)])
    compare.main(["digits", "--scenarios", "random_10", "--data-dir", str(tmp_path)])
    made = len(capsys.readouterr().out.splitlines())
    results = json.loads(small.read_text(encoding="utf-8"))
    assert made == len(results["rows"]) == 8
    assert str(tmp_path) not in small.read_text(encoding="utf-8")
    (source,) = results["sources"]
    assert source["command"] == "python -m experiments.comparison.compare digits --data-dir DIR"
    assert set(source["git"]) == {"commit", "dirty"}
    small.unlink()
    compare.main(["digits", "--gather"])
    assert json.loads(small.read_text(encoding="utf-8")) == results
    assert capsys.readouterr().out == ""


def test_another_method_joins_what_the_result_file_holds(small, tmp_path, capsys):
    compare.main(["digits", "--scenarios", "class"])
    first = json.loads(small.read_text(encoding="utf-8"))
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    compare.main(["digits", "--scenarios", "class", "--methods", "random_label"])
    (made,) = capsys.readouterr().out.splitlines()
    assert "random_label" in made
    both = json.loads(small.read_text(encoding="utf-8"))
    added = [row for row in both["rows"] if row not in first["rows"]]
    assert [row["method"] for row in added] == ["random_label"]
    assert len(both["rows"]) == len(first["rows"]) + 1
    assert both["sources"] == first["sources"]


def test_afresh_repeats_every_result(small, tmp_path, capsys):
    compare.main(["digits", "--scenarios", "class"])
    made = len(capsys.readouterr().out.splitlines())
    shutil.rmtree(tmp_path / "runs")
    compare.main(["digits", "--scenarios", "class", "--afresh"])
    assert len(capsys.readouterr().out.splitlines()) == made


@pytest.mark.parametrize("name", NAMES)
def test_the_comparisons_are_what_the_readme_says(name):
    comparison = compare.COMPARISONS[name]
    assert comparison.select_seed not in comparison.train_seeds
    if name == "digits":
        assert len(comparison.train_seeds) == 5
        assert len(comparison.scenarios) == 4
        assert len(comparison.entries) == len(unlearners.METHODS) - 1
    else:
        assert len(comparison.train_seeds) == 3
        assert len(comparison.entries) >= 12
