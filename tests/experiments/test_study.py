"""Experiments on the paper's claims: rows kept and shared, verdicts, and every --quick path."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.ablations import (
    budget,
    conflicts,
    failure_signatures,
    overlap,
    rho_sweep,
    scheme_check,
    second_order,
    stopping,
)
from experiments.attacks import movement
from experiments.comparison import claims
from experiments.lib import forget_sets, study
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, variant
from tests import tiny

pytestmark = pytest.mark.experiments

TABLE = Setting("tests.tiny:table", None, "mlp", epochs=2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(autouse=True)
def place(tmp_path, shared, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "FOLDER", shared)
    for module in (claims, rho_sweep, overlap, conflicts, movement, stopping):
        monkeypatch.setattr(module, "QUICK", TABLE)
    monkeypatch.setattr(failure_signatures, "SETTING", TABLE)
    return tmp_path


def written(place, name):
    return json.loads((place / "runs" / f"{name}.json").read_text(encoding="utf-8"))


def test_results_are_kept_and_nothing_is_made_twice(monkeypatch):
    jobs = [Job(TABLE, variant(name), 0) for name in ("original", "retrain", "finetune")]
    first = study.results_of(jobs, study.Options())
    monkeypatch.setattr(study, "make_result", lambda *arguments, **options: None)
    assert study.results_of(jobs, study.Options()) == first
    assert [result["method"] for result in first.values()] == ["original", "retrain", "finetune"]
    assert all(result["failure"] is None for result in first.values())
    assert first[jobs[1]]["avg_gap"] == 0


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([3.0, 3.1, 2.9], "holds"),
        ([1.0, 1.1, 0.9], "does not hold"),
        ([1.0, 9.0, 1.0], "cannot tell"),
        ([3.0, 3.0], "cannot tell"),
    ],
)
def test_verdicts(theirs, said):
    ours = dict.fromkeys(range(3), 1.0)
    found = claims.verdict("rival", ours, dict(enumerate(theirs)), margin=0.7)
    assert found["verdict"] == said


def test_over_settings_a_claim_is_as_good_as_its_worst():
    def over(*verdicts):
        cells = {str(i): {"verdict": v, "interval": [0, 1]} for i, v in enumerate(verdicts)}
        return claims.verdict_over("", cells)["verdict"]

    assert over("holds", "holds") == "holds"
    assert over("holds", "cannot tell") == "cannot tell"
    assert over("holds", "does not hold", "cannot tell") == "does not hold"
    assert over() == "cannot tell"


def test_variants_are_options_that_their_methods_take():
    import ltu_jax.unlearners as unlearners

    for one in claims.VARIANTS.values():
        method = unlearners.find(one.method)
        assert unlearners.configure(method, Job(TABLE, one, 0).options) is not None


@pytest.mark.parametrize("name", sorted(forget_sets.FORGET_SETS.keys() - {"subclass"}))
def test_forget_sets_are_rows_of_the_training_set(name):
    from ltu_jax.data.request import resolve

    data = tiny.table()
    outputs = np.random.default_rng(0).normal(size=(120, 3))
    request = forget_sets.FORGET_SETS[name].request(1, data, lambda: outputs)
    rows = resolve(request, data)
    assert 0 < len(rows) < 120
    assert len(set(rows.tolist())) == len(rows)


def test_doubles_leave_the_other_of_each_pair():
    features = np.repeat(np.eye(6), 2, axis=0) + 1e-3 * np.random.default_rng(0).normal(
        size=(12, 6)
    )
    data = tiny.table(12, 6)
    data = data._replace(train=data.train._replace(labels=np.zeros(12, np.int32)))
    chosen = forget_sets.doubles(0, data, lambda: features)
    assert len({row // 2 for row in chosen}) == len(chosen)
    assert forget_sets.overlap(features, data.train.labels, np.array([0, 2, 4])) > 1
    pairs = np.arange(4)  # two whole pairs: each one's neighbour goes with it
    assert forget_sets.overlap(features, data.train.labels, pairs) == 0


def test_sanity_case_of_conflicts_is_the_closed_form():
    for one in conflicts.sanity():
        assert one["along_remember"] == pytest.approx(one["closed_form_remember"], abs=1e-5)
        assert one["along_forget"] == pytest.approx(one["closed_form_forget"], abs=1e-5)


def test_claims_quick(place):
    claims.main(["--quick"])
    results = written(place, "claims")
    assert list(results["claims"]) == ["C1", "C2", "C3", "C4"]
    assert {one["verdict"] for one in results["claims"].values()} <= {
        "holds",
        "does not hold",
        "cannot tell",
    }
    assert "LTU" in results["settings"]["quick"] or "ltu" in results["settings"]["quick"]


def test_claims_keep_variants_without_new_results():
    row = dict.fromkeys(claims.METRICS) | {"avg_gap": 0.0, "failure": None}
    row |= {"conflicts": None, "source": "second"}
    kept, added = list(claims.SETTINGS)[:2]
    jobs = [job._replace(setting=claims.SETTINGS[added][0]) for job in claims.quick_jobs()]
    old = {"retrain": "old", "only hinge": "old"}
    before = {
        "settings": {kept: {"LTU": "as it was"}, added: old},
        "sources": [
            {"of": {added: ["retrain"]}},
            {"of": {added: ["only hinge", "retrain"], kept: ["LTU"]}, "command": "first"},
        ],
    }
    found = claims.verdicts(jobs, dict.fromkeys(jobs, row), before)
    assert list(found["settings"]) == [kept, added]
    assert found["settings"][kept] == {"LTU": "as it was"}
    assert found["settings"][added]["only hinge"] == "old"
    assert found["settings"][added]["retrain"]["gap"][0] == 0
    first, second = found["sources"]
    assert first == {"of": {added: ["only hinge"], kept: ["LTU"]}, "command": "first"}
    assert {"retrain", "retrain_2"} <= set(second["of"][added])
    assert second["rows_made_by"] == ["second"]


def test_an_unknown_setting_or_variant_of_the_claims_is_named():
    for option, value in (("--only", "cnn"), ("--variants", "ltu")):
        with pytest.raises(SystemExit, match=f"{option} {value}"):
            claims.main([option, value])


def test_only_the_named_variants_are_made(monkeypatch):
    made = []
    monkeypatch.setattr(study, "results_of", lambda jobs, options: made.extend(jobs) or {})
    monkeypatch.setattr(claims, "write_json", lambda *_: None)
    monkeypatch.setattr(study, "save", lambda *_: None)
    setting = "digits, mlp, a random 10 %"
    claims.main(["--only", setting, "--variants", "joint"])
    assert {job.setting for job in made} == {claims.SETTINGS[setting][0]}
    assert {job.variant.method for job in made} == {"original", "retrain", "retrain_2", "ltu_joint"}


def test_rho_sweep_quick(place):
    rho_sweep.main(["--quick"])
    assert set(written(place, "rho_sweep")["methods"]["finetune"]) == {"0.3", "0.9"}


def test_movement_quick(place):
    movement.main(["--quick"])
    (cells,) = written(place, "movement")["shares"].values()
    assert set(cells) == {"retrain", "retrain_2", "0", "0.4"}
    assert cells["retrain"]["gap"][0] == 0
    assert cells["0"]["two_model"] != cells["0.4"]["two_model"]


def test_budget_quick(place, monkeypatch):
    monkeypatch.setattr(budget, "QUICK_PLAN", replace(budget.QUICK_PLAN, setting=TABLE))
    budget.main(["--quick"])
    rows = written(place, "budget")["rows"]
    assert [(row["method"], row["steps"]) for row in rows] == [("mi_match", 5), ("mi_match", 10)]
    assert all(row["learning_rate"] in (0.02, 0.04) and row["seeds"] == [0] for row in rows)
    assert rows[1]["work"] == pytest.approx(2 * rows[0]["work"])


def test_second_order_quick(place, monkeypatch):
    plan = replace(second_order.QUICK_PLAN, setting=TABLE)
    monkeypatch.setattr(second_order, "QUICK_PLAN", plan)
    second_order.main(["--quick"])
    results = written(place, "second_order")
    exact, last_layer = results["rows"]
    assert (exact["form"], last_layer["form"]) == ("exact", "last layer")
    assert last_layer["images"] < exact["images"]
    assert results["times"]["ltu"]["exact"] == [1, 1, 1]
    assert set(results["times"]["ltu"]) == {"exact", "last layer", "mi_match"}
    assert exact["gap"][0] != last_layer["gap"][0]


def test_stopping_quick(place, capsys):
    stopping.main(["--quick"])
    cell = written(place, "stopping")["settings"]["quick"]
    assert set(cell["steps"]) == {"5", "300"}
    rules = {rule: one["gap"][0] for rule, one in cell["rules"].items()}
    assert rules["oracle"] == min(one["gap"][0] for one in cell["steps"].values())
    assert cell["rules"]["default"]["steps"] == [300]
    printed = capsys.readouterr().out
    stopping.main(["--quick"])  # from what is kept
    assert capsys.readouterr().out == printed


def test_the_rule_takes_the_steps_of_the_smallest_score():
    runs = [{"steps": s, "score": x, "gap": g} for s, x, g in ((30, 2.0, 9.0), (300, 3.0, 1.0))]
    rules = stopping.collect({0: runs})["rules"]
    assert {rule: one["steps"] for rule, one in rules.items()} == {
        "score": [30],
        "default": [300],
        "oracle": [300],
    }


def test_the_work_of_a_deletion_is_that_of_its_steps():
    setting = Setting("cifar10", 5_000, "mlp", epochs=10)
    retraining = 10 * 4_500 * 3
    units = {"ltu": 2400, "ltu_first_order": 1440, "mi_match": 960}  # 32, 192 and 128 images
    for method, unit in units.items():
        assert budget.work(method, 30, setting, 4_500) == pytest.approx(30 * unit / retraining)


def test_overlap_quick(place):
    overlap.main(["--quick"])
    found = written(place, "overlap")["sets"]
    assert set(found) == set(overlap.SETS[:2])
    assert all(one["overlap"][0] > 0 for one in found.values())


def test_conflicts_quick(place):
    conflicts.main(["--quick"])
    results = written(place, "conflicts")
    assert set(results["settings"]) == {"digits"}
    assert all(-1 <= d <= 1 for one in results["layers"].values() for d in one["deciles"])


def test_scheme_check_quick(place):
    scheme_check.main(["--quick"])
    ways = written(place, "scheme_check")["ways"]
    assert [(way["gap"], way["order"]) for way in ways] == [
        (True, 2),
        (True, 1),
        (False, 2),
        (False, 1),
    ]


def test_failure_signatures_quick(place):
    failure_signatures.main(["--quick"])
    cases = written(place, "failure_signatures")["cases"]
    assert cases["support and query the same"]["effective_models"][0] == pytest.approx(1, abs=0.02)
    assert cases["support and query the same"]["warned"] == 1
