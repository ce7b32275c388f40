"""A small comparison: complete, resumable, labelled, and honest about what failed."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from ltu_jax import unlearners
from ltu_jax.runs.comparison import cell, grid
from ltu_jax.report.comparison import write as report
from ltu_jax.runs.comparison.options import Comparison
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.errors import InputError, InvariantError
from ltu_jax.unlearners.base import Choice

DATA = "tests.tiny:table"
FINETUNE = unlearners.find("finetune")
SOURCE = {"command": "pytest", "versions": {}}
KEYS = {"method", "scenario", "train_seed", "unlearn_seed", "ua", "ra", "ta", "mia"}
KEYS |= {"avg_gap", "auc", "ks", "seconds", "selected_by", "gaps", "rte", "options"}


def numbers(row):
    return {key: row[key] for key in ("ua", "ra", "ta", "mia", "auc", "ks", "avg_gap", "options")}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return Comparison(
        out=folder / "out",
        cache=folder / "cache",
        data=DATA,
        epochs=2,
        methods=("finetune", "l1_sparse"),
        scenarios=("class",),
        train_seeds=(0, 1),
        trials=2,
    )


@pytest.fixture(scope="module")
def results(comparison):
    with pytest.MonkeyPatch.context() as patch:
        for name in comparison.methods:
            entry = unlearners.METHODS[name]
            space = {key: entry.space[key] for key in list(entry.space)[:1]}
            patch.setitem(unlearners.METHODS, name, replace(entry, space=space))
        lines = []
        found = grid.run(comparison, source=SOURCE, say=lines.append)
    assert len(lines) == len(found["rows"])
    return found


def test_every_method_has_a_row_on_every_seed_beside_the_references(results):
    rows = {(row["method"], row["train_seed"]): row for row in results["rows"]}
    methods = ("retrain", "retrain_2", "nothing", "finetune", "l1_sparse")
    assert set(rows) == {(method, seed) for method in methods for seed in (0, 1)}
    for row in rows.values():
        assert row.keys() >= KEYS
        retrain = rows["retrain", row["train_seed"]]
        gaps = {name: row[name] - retrain[name] for name in ("ua", "ra", "ta", "mia")}
        assert row["gaps"] == pytest.approx(gaps)
        assert row["avg_gap"] == pytest.approx(np.mean(np.abs(list(gaps.values()))))
        assert row["failure"] is None
    assert rows["retrain", 0]["avg_gap"] == 0
    assert {rows[m, 0]["selected_by"] for m in ("finetune", "l1_sparse")} == {"oracle_free"}
    assert rows["nothing", 0]["selected_by"] is None
    assert rows["finetune", 0]["peak_bytes"] > 0


def test_trials_are_as_many_for_every_method_and_written_down(results, comparison):
    assert set(results["tuning"]) == {"class-finetune", "class-l1_sparse"}
    for name, tuning in results["tuning"].items():
        assert len(tuning["trials"]) == 2
        assert tuning["train_seed"] == comparison.select_seed
        method = name.removeprefix("class-")
        chosen = tuning["trials"][tuning["chosen"]]["options"]
        for row in results["rows"]:
            if row["method"] == method:
                assert row["options"] == chosen
        assert json.loads((comparison.out / "tuning" / f"{name}.json").read_text()) == tuning


def test_what_is_missing_is_made_again_alike_and_nothing_else_is(results, comparison):
    (comparison.out / "rows" / "class-1-0-finetune.json").unlink()
    lines = []
    again = grid.run(comparison, source={"command": "again"}, say=lines.append)
    assert len(lines) == 1
    assert [numbers(row) for row in again["rows"]] == [numbers(row) for row in results["rows"]]
    assert again["sources"] == [SOURCE, {"command": "again"}]
    assert json.loads((comparison.out / "compare.json").read_text()) == again


def test_another_comparison_does_not_get_into_the_folder(comparison, results):
    with pytest.raises(InputError, match=r"--out .*: holds a comparison with epochs 2, not 3"):
        grid.run(replace(comparison, epochs=3), source=SOURCE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenarios": ("all",)}, "--scenarios all: choose from random_10"),
        ({"methods": ("magic",)}, "--methods magic"),
        ({"select_seed": 1}, "--select-seed 1: is one of --train-seeds"),
        ({"select": "luck"}, "--select luck"),
        ({"match": "all"}, "--match all"),
        ({"trials": 0}, "--trials 0"),
        ({"train_seeds": ()}, "give at least one"),
        ({"unlearn_seeds": (-1,)}, "--unlearn-seeds -1"),
    ],
)
def test_bad_options_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        Comparison(out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_no_method_is_missing_from_a_comparison_of_all(tmp_path):
    names = set(Comparison(out=tmp_path).entries)
    assert names == set(unlearners.METHODS) - {"nothing"}
    # On all of the retain set the method `retrain_accessible` is the second reference.
    whole = Comparison(out=tmp_path, retain_fraction=1.0).entries
    assert set(whole) == names - {"retrain_accessible"}


def the_cell(comparison, **options):
    return cell.Cell(replace(comparison, **options), "class", 0)


def test_data_matched_methods_get_the_validation_images(comparison, results):
    matched = the_cell(comparison, match="data")
    data = cell.visible_data(matched.plan.dataset, matched.plan.split)
    options = {"batch_size": 8}
    plan, seen = matched._matched(FINETUNE, options, data)
    np.testing.assert_array_equal(
        seen.retain.inputs, np.concatenate([data.retain.inputs, data.validation.inputs])
    )
    alone = the_cell(comparison)._matched(FINETUNE, options, data)[0]
    assert plan.unlearner.num_steps > alone.unlearner.num_steps
    assert matched._matched(unlearners.find("mi_match"), {}, data)[1] is data


def test_compute_matched_methods_run_as_long_as_ltu(comparison, results, monkeypatch):
    matched = the_cell(comparison, match="compute", select="default")
    costs = {"ltu": 6000.0, "finetune": 100.0}
    monkeypatch.setattr(matched, "_flops", lambda plan, data: costs[plan.method.name])
    data = cell.visible_data(matched.plan.dataset, matched.plan.split)
    plan, seen = matched._matched(FINETUNE, {"epochs": 3}, data)
    assert plan.config.epochs == 180
    assert seen is data
    assert (
        matched._matched(unlearners.find("ssd"), {}, data)[0].config
        == unlearners.find("ssd").config
    )


def test_a_method_that_fails_is_a_row_that_says_so(comparison, results, monkeypatch, tmp_path):
    entry = unlearners.METHODS["finetune"]
    broken = replace(entry.config, learning_rate=1e30)
    monkeypatch.setitem(
        unlearners.METHODS,
        "finetune",
        replace(entry, config=broken, space={"epochs": Choice((1,))}),
    )
    row = the_cell(comparison, select="default").row("finetune", 0)
    assert "became" in row["failure"]
    assert row["avg_gap"] is None
    page = report.table.markdown({**results, "rows": [*results["rows"], row]})
    assert "`finetune` (1 failed)" in page


def test_a_retrained_network_that_is_the_originals_is_refused(comparison, results, monkeypatch):
    original = the_cell(comparison).network("original")
    monkeypatch.setattr(cell, "cached_network", lambda *arguments: original)
    with pytest.raises(InvariantError, match="before the first step"):
        the_cell(comparison).network("retrain")


def test_tables_and_figures_hold_every_run(results, tmp_path):
    report.write(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.md",
        "table.csv",
        "pareto_class.png",
    }
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(results["rows"])
    for line, row in zip(lines, results["rows"]):
        assert float(line["avg_gap"]) == row["avg_gap"]
        assert float(line["gap_ua"]) == row["gaps"]["ua"]
    assert len(report.tables(results)) == 1


def test_every_scenario_has_a_title():
    assert set(SCENARIOS) == {"random_10", "random_50", "class", "subclass"}
