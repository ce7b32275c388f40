"""A small comparison: complete, resumable, labelled, and honest about what failed."""

import csv
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from ltu_jax import unlearners
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.errors import InputError, InvariantError
from ltu_jax.report import comparison as report
from ltu_jax.runs.comparison import bench, compare
from ltu_jax.runs.comparison.bench import Bench
from ltu_jax.runs.comparison.jobs import Job, Variant
from ltu_jax.runs.comparison.options import DEFAULT_SCENARIOS, Comparison
from ltu_jax.runs.plan import visible_data
from ltu_jax.training.checkpoint import restore, save_checkpoint

DATA = "tests.tiny:table"
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
        found = compare.run(comparison, source=SOURCE, say=lines.append)
    assert len(lines) == len(found["rows"])
    return found


def test_every_method_and_reference_has_a_result_on_every_seed(results):
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


def test_every_method_has_the_same_number_of_trials_on_record(results, comparison):
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


def test_a_missing_result_alone_is_made_and_is_the_same(results, comparison):
    (comparison.out / "results" / "class-1-0-finetune.json").unlink()
    lines = []
    again = compare.run(comparison, source={"command": "again"}, say=lines.append)
    assert len(lines) == 1
    assert [numbers(row) for row in again["rows"]] == [numbers(row) for row in results["rows"]]
    assert again["sources"] == [SOURCE, {"command": "again"}]
    assert json.loads((comparison.out / "compare.json").read_text()) == again


def test_a_folder_of_another_comparison_is_refused(comparison, results):
    with pytest.raises(InputError) as refused:
        compare.run(replace(comparison, epochs=3), source=SOURCE)
    assert refused.value.argument == "out"
    assert "epochs 2, not 3" in refused.value.problem


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scenarios", ("all",)),
        ("methods", ("magic",)),
        ("select_seed", 1),
        ("select", "luck"),
        ("match", "all"),
        ("trials", 0),
        ("train_seeds", ()),
        ("unlearn_seeds", (-1,)),
    ],
)
def test_bad_options_are_refused_at_once(tmp_path, argument, value):
    with pytest.raises(InputError) as refused:
        Comparison(out=tmp_path / "out", **{argument: value})
    assert argument in str(refused.value).split()[0]
    assert list(tmp_path.iterdir()) == []


def test_no_method_is_missing_from_a_comparison_of_all(tmp_path):
    names = set(Comparison(out=tmp_path).entries)
    assert names == set(unlearners.METHODS) - {"nothing"}
    # On all of the retain set the method `retrain_accessible` is the second reference.
    whole = Comparison(out=tmp_path, retain_fraction=1.0).entries
    assert set(whole) == names - {"retrain_accessible"}


def matched(comparison, method, options, **changes):
    """The plan and the data of a method under a control of data or compute."""
    comparison = replace(comparison, **changes)
    here = compare.bench(comparison, "class", 0)
    data = visible_data(here.plan.dataset, here.plan.split)
    return *compare.matched(comparison, here, unlearners.find(method), options, data), data


def test_data_matched_methods_get_the_validation_images(comparison, results):
    options = {"batch_size": 8}
    plan, seen, data = matched(comparison, "finetune", options, match="data")
    np.testing.assert_array_equal(
        seen.retain.inputs, np.concatenate([data.retain.inputs, data.validation.inputs])
    )
    alone = matched(comparison, "finetune", options)[0]
    assert plan.unlearner.num_steps > alone.unlearner.num_steps
    _, seen, data = matched(comparison, "mi_match", {}, match="data")
    assert seen is data


def test_compute_matched_methods_run_as_long_as_ltu(comparison, results, monkeypatch):
    costs = {"ltu": 6000.0, "finetune": 100.0}
    monkeypatch.setattr(compare, "flops", lambda here, plan, data: costs[plan.method.name])
    control = {"match": "compute", "select": "default"}
    plan, seen, data = matched(comparison, "finetune", {"epochs": 3}, **control)
    assert plan.config.epochs == 180
    assert seen is data
    plan = matched(comparison, "ssd", {}, **control)[0]
    assert plan.config == unlearners.find("ssd").config


def test_a_method_that_fails_gives_a_result_with_the_reason(comparison, results, monkeypatch):
    entry = unlearners.METHODS["finetune"]
    broken = replace(entry.config, learning_rate=1e30, epochs=1)
    monkeypatch.setitem(unlearners.METHODS, "finetune", replace(entry, config=broken))
    comparison = replace(comparison, select="default")
    job = Job(comparison.setting("class"), Variant("finetune"), 0)
    row = compare.make_result(comparison, job)
    assert row["failure"]
    assert row["avg_gap"] is None
    page = report.table.markdown({**results, "rows": [*results["rows"], row]})
    assert "`finetune` (1 failed)" in page


def test_a_retrained_model_with_the_weights_of_the_original_is_refused(comparison, monkeypatch):
    there = Bench(comparison.setting("class"), 0, cache=comparison.cache)
    original = there.model("original")
    monkeypatch.setattr(bench, "cached_model", lambda *arguments: original)
    with pytest.raises(InvariantError):
        there.model("retrain")


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
    assert set(SCENARIOS) == {"random_10", "random_50", "class", "subclass", "ids"}


OWN_IDS = ["patient-0003", "patient-0007", "patient-0011"]


@pytest.fixture
def own(comparison, tmp_path):
    """Return a comparison of a checkpoint and ids of the user's."""
    ids = tmp_path / "clinic.csv"
    ids.write_text("age,patient\n" + "".join(f"7,{name}\n" for name in OWN_IDS))
    setting = replace(comparison, epochs=60).setting("class")
    trained = bench.Bench(setting, 5, cache=tmp_path / "cache")
    save_checkpoint(tmp_path / "mine", trained.model("original").variables)
    return replace(
        comparison,
        out=tmp_path / "own",
        cache=tmp_path / "cache",
        methods=("finetune",),
        scenarios=DEFAULT_SCENARIOS,
        train_seeds=(0,),
        select="default",
        checkpoint=str(tmp_path / "mine"),
        forget_ids=ids,
        forget_id_column="patient",
    )


@pytest.mark.slow
def test_a_checkpoint_and_ids_of_the_user_are_compared(own):
    rows = compare.run(own, source=SOURCE, say=lambda line: None)["rows"]
    assert {row["scenario"] for row in rows} == {"ids"}
    assert {row["method"] for row in rows} == {"retrain", "retrain_2", "nothing", "finetune"}
    here = compare.bench(own, "ids", 0)
    assert here.plan.dataset.train_ids[here.plan.split.forget].tolist() == OWN_IDS
    original = here.model("original").variables
    jax.tree.map(np.testing.assert_array_equal, original, restore(own.checkpoint, original))
    written = "".join(path.read_text() for path in own.out.rglob("*.*") if path.suffix != ".png")
    assert not any(name in written for name in OWN_IDS)
    report.write(json.loads((own.out / "compare.json").read_text()), own.out)
    with pytest.raises(InputError) as caught:
        compare.run(replace(own, checkpoint=None), source=SOURCE)
    assert caught.value.argument == "out"


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"forget_ids": None}, "forget_ids"),
        ({"forget_ids": None, "forget_id_column": None, "scenarios": ("ids",)}, "forget_ids"),
        ({"scenarios": ("subclass",)}, "scenarios"),
        ({"forget_id_column": "name"}, "forget"),
        ({"checkpoint": "nowhere"}, "checkpoint"),
        ({"train_size": 40, "train_seeds": (0, 1, 2, 3)}, "forget"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(own, changes, argument):
    with pytest.raises(InputError) as caught:
        compare.run(replace(own, **changes), source=SOURCE)
    assert caught.value.argument == argument
    assert not own.out.exists()
