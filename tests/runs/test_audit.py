"""An audit of a finished run: what it adds to the report, and which ensembles it takes."""

import json
import shutil

import pytest

from ltu_jax.audit.ensembles import PARTS, SHADOW
from ltu_jax.runs import ensembles
from ltu_jax.runs.audit import audit_run, find_ensembles
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.spec import InMemory
from tests import tiny
from tests.refusals import refused

pytestmark = pytest.mark.slow

NETWORKS = ["original", "retrain", "retrain_2", "ltu"]


@pytest.fixture(scope="module")
def finished(complete, tmp_path_factory):
    """A copy of a finished run, to which audits may add."""
    folder = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(complete.folder, folder)
    return folder


@pytest.fixture(scope="module")
def plan(finished):
    return load_plan(finished, InMemory(tiny.table()))


@pytest.fixture(scope="module")
def kept(plan, tmp_path_factory):
    """A folder with ensembles of the run."""
    folder = tmp_path_factory.mktemp("ensembles")
    types = ("retrain", "unlearned", "shadow_unlearned", "shadow_retrain")
    assert len(list(ensembles.make_ensembles(plan, types, 8, folder, quiet=True))) == len(types)
    return folder


@pytest.fixture(scope="module")
def audited(finished, kept):
    return audit_run(finished, ensembles=kept, data=tiny.table(), quiet=True)


def test_without_ensembles_the_networks_of_the_run_are_attacked(complete, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(complete.folder, folder)
    found = audit_run(folder, data=tiny.table(), quiet=True)
    assert [row["model"] for row in found["population"]] == NETWORKS
    assert found["population"][0]["two_model"] == 50  # nothing fell from the original to itself
    assert found["per_example"] == found["distinguishing"] == {}
    assert found["tests"] == []
    distances = {row["model"]: row for row in found["distances"]}
    assert distances["retrain"]["weights"] == distances["retrain"]["activation"] == 0
    assert distances["retrain_2"]["weights"] > 0
    assert distances["original"]["relearn"] == 0  # it never forgot
    assert all(0 <= row["zrf"] <= 1 for row in found["distances"])
    report = json.loads((folder / "report.json").read_text())
    assert report["audit"] == found == json.loads((folder / "audit.json").read_text())
    before = json.loads((complete.folder / "report.json").read_text())
    assert {key: value for key, value in report.items() if key != "audit"} == before
    assert "ltu ensemble" in (folder / "report.html").read_text()


def test_ensembles_add_attacks_on_single_examples(audited):
    assert set(audited["distinguishing"]) == {"unlearned", "retrain", "original"}
    assert all(set(parts) == set(PARTS) for parts in audited["distinguishing"].values())
    assert set(audited["per_example"]) == set(SHADOW)
    for attacks in audited["per_example"].values():
        for found in attacks.values():
            assert 0 <= found["auc"] <= 100
            assert found["bound"].keys() == {"epsilon", "certifiable", "detectable"}
    assert audited["ensembles"]["shadow_unlearned"]["models"] == 16


def test_attacks_on_the_methods_own_features_are_not_counted(audited):
    tests = {test["name"]: test for test in audited["tests"]}
    assert "U-LiRA" in tests
    for name, test in tests.items():
        assert (test["adjusted"] is None) == bool(test["shares"]) == ("noisy" not in name)


def test_an_audit_made_again_is_the_same(finished, kept, audited):
    again = audit_run(finished, ensembles=kept, data=tiny.table(), quiet=True)
    assert again == audited


def test_one_ensemble_stands_for_its_folder(plan, kept):
    one = next(kept.glob("retrain-*"))
    assert find_ensembles(plan, one).keys() == find_ensembles(plan, kept).keys()


def test_the_largest_ensemble_of_this_run_is_taken(plan, kept, tmp_path):
    shutil.copytree(kept, tmp_path / "ensembles")
    list(ensembles.make_ensembles(plan, ["retrain"], 9, tmp_path / "ensembles", quiet=True))
    assert len(find_ensembles(plan, tmp_path / "ensembles")["retrain"].streams) == 9
    list(ensembles.make_ensembles(plan, ["retrain"], 10, tmp_path / "other", quiet=True))
    with refused("ensembles"):
        find_ensembles(plan, tmp_path / "other")
    other = plan._replace(problem=plan.problem._replace(seed=plan.seed + 1))
    with refused("ensembles"):
        find_ensembles(other, tmp_path / "ensembles")


def test_ensembles_that_are_too_small_are_named_with_their_size(plan, tmp_path):
    for size in (2, 7):
        entry = ensembles.ensemble_folder(plan, "retrain", size, tmp_path)
        entry.mkdir()
        (entry / "about.json").write_text("{}")
    with refused("ensembles") as caught:
        find_ensembles(plan, tmp_path)
    assert "7 models" in caught.value.problem


def test_a_whole_class_has_no_canary_pairs_and_is_audited_without(small_run, tmp_path):
    import ltu_jax

    run = small_run(forget=ltu_jax.by_class("ill"), reference="none")
    plan = load_plan(run.folder, InMemory(tiny.table()))
    with refused("types"):
        ensembles.make_ensemble(plan, "shadow", 2, tmp_path, None)
    list(ensembles.make_ensembles(plan, ["retrain", "unlearned"], 8, tmp_path, quiet=True))
    found = audit_run(run.folder, ensembles=tmp_path, data=tiny.table(), quiet=True)
    assert found["per_example"] == {}
    assert found["distinguishing"]["unlearned"]["forget"]["margin"]["models"] == 4
    assert [row["model"] for row in found["population"]] == ["original", "ltu"]


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"data": None}, "data"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(finished, options, argument):
    with refused(argument):
        audit_run(finished, **{"data": tiny.table(), "quiet": True, **options})


def test_a_folder_without_ensembles_is_refused(finished, tmp_path):
    with refused("ensembles"):
        audit_run(finished, ensembles=tmp_path, data=tiny.table(), quiet=True)
