"""The script behind the README's result table: real rows, resumed runs, an honest table."""

import json
from types import SimpleNamespace

import pytest

import ltu_jax
from experiments import first_table

MODELS = ["original", "retrain", "retrain_2", "ltu"]


@pytest.fixture(scope="module")
def finished(compiled_once, tmp_path_factory):
    """A file of results with one real, quick run in it, and the options that made it."""
    folder = tmp_path_factory.mktemp("first_table")
    options = ["--quick", "--out", f"{folder / 'digits.json'}", "--runs", f"{folder / 'runs'}"]
    first_table.main(options)
    return folder, options


@pytest.fixture
def asked(monkeypatch):
    """The calls of `ltu_jax.unlearn`, which is replaced by one that takes no time."""
    calls = []

    def unlearn(data, forget, *, seed, out, **options):
        calls.append((data.name, forget, seed, out))
        rows = [SimpleNamespace(_asdict=lambda m=m: {"model": m, "ua": 1.0}) for m in MODELS]
        return SimpleNamespace(rows=rows)

    monkeypatch.setattr(ltu_jax, "unlearn", unlearn)
    return calls


def _read(options):
    with open(options[options.index("--out") + 1], encoding="utf-8") as file:
        return json.load(file)


def test_a_run_leaves_one_complete_row_per_model(finished):
    folder, options = finished
    results = _read(options)
    assert [row["model"] for row in results["rows"]] == MODELS
    for row in results["rows"]:
        assert (row["scenario"], row["seed"], row["source"]) == ("random", 0, 0)
        assert {"ua", "ra", "ta", "mia", "avg_gap", "gaps", "auc", "ks", "seconds"} <= set(row)
        assert 0 <= row["ta"] <= 100
    assert results["seeds"] == [0]
    assert results["config"]["training"]["epochs"] == 2
    assert results["config"]["ltu"]["steps"] == 5
    source = results["sources"][0]
    assert source["versions"]["jax"]
    assert set(source["git"]) == {"commit", "dirty"}
    (run,) = (folder / "runs").iterdir()
    report = json.loads((run / "report.json").read_text())
    assert [row["ua"] for row in report["rows"]] == [row["ua"] for row in results["rows"]]


def test_nothing_that_is_written_names_a_folder_of_this_machine(finished):
    folder, options = finished
    assert str(folder) not in json.dumps(_read(options))


def test_finished_runs_are_skipped_and_missing_ones_added(finished, asked, tmp_path):
    _, options = finished
    copy = tmp_path / "digits.json"
    copy.write_text(json.dumps(_read(options)))
    again = ["--quick", "--out", str(copy), "--runs", str(tmp_path / "runs")]
    first_table.main(again)
    assert asked == []
    assert copy.read_text() == json.dumps(_read(options))
    first_table.main([*again, "--seeds", "0", "13", "--scenarios", "random", "class"])
    assert [(forget, seed) for _, forget, seed, _ in asked] == [
        (ltu_jax.by_class(0), 0),
        (ltu_jax.by_fraction(0.1, seed=13), 13),
        (ltu_jax.by_class(3), 13),
    ]
    results = _read(again)
    assert results["seeds"] == [0, 13]
    assert len(results["rows"]) == 16
    assert results["rows"][:4] == _read(options)["rows"]
    assert {row["source"] for row in results["rows"][4:]} == {1}


def test_a_run_that_fails_loses_none_before_it(asked, tmp_path, monkeypatch):
    unlearn = ltu_jax.unlearn

    def fails_for_seed_1(*args, seed, **options):
        if seed == 1:
            raise KeyboardInterrupt
        return unlearn(*args, seed=seed, **options)

    monkeypatch.setattr(ltu_jax, "unlearn", fails_for_seed_1)
    options = ["--out", str(tmp_path / "a" / "digits.json"), "--runs", str(tmp_path / "runs")]
    with pytest.raises(KeyboardInterrupt):
        first_table.main([*options, "--seeds", "0", "1"])
    assert _read(options)["seeds"] == [0]
    monkeypatch.setattr(ltu_jax, "unlearn", unlearn)
    first_table.main([*options, "--seeds", "0", "1"])
    assert [seed for _, _, seed, _ in asked] == [0, 1]
    assert _read(options)["seeds"] == [0, 1]


def test_results_of_other_settings_are_not_mixed(finished, asked):
    _, options = finished
    before = _read(options)
    with pytest.raises(SystemExit, match="another configuration"):
        first_table.main([o for o in options if o != "--quick"])
    assert asked == []
    assert _read(options) == before
