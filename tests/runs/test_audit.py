"""An audit of a finished run: what it adds to the report, and which pools it takes."""

import json
import shutil

import pytest

import ltu_jax.runs.ensembles as pools
from ltu_jax.audit.ensembles import PARTS, SHADOW
from ltu_jax.runs.audit import audit_run, find_pools
from ltu_jax.errors import InputError
from ltu_jax.runs.settings import load_plan
from tests import tiny

NETWORKS = ["original", "retrain", "retrain_2", "ltu"]


@pytest.fixture(scope="module")
def finished(complete, tmp_path_factory):
    """A copy of a finished run, to which audits may add."""
    folder = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(complete.folder, folder)
    return folder


@pytest.fixture(scope="module")
def plan(finished):
    return load_plan(finished, data=tiny.table())


@pytest.fixture(scope="module")
def kept(plan, tmp_path_factory):
    """A folder with pools of the run."""
    folder = tmp_path_factory.mktemp("pools")
    kinds = ("retrain", "unlearned", "shadow_unlearned", "shadow_retrain")
    assert len(list(pools.make_pools(plan, kinds, 8, folder, quiet=True))) == len(kinds)
    return folder


@pytest.fixture(scope="module")
def audited(finished, kept):
    return audit_run(finished, pools_in=kept, data=tiny.table(), quiet=True)


def test_without_pools_the_networks_of_the_run_are_attacked(complete, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(complete.folder, folder)
    found = audit_run(folder, data=tiny.table(), quiet=True)
    assert [row["model"] for row in found["population"]] == NETWORKS
    assert found["population"][0]["two_model"] == 50  # nothing fell from the original to itself
    assert found["coins"] == found["apart"] == {}
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
    assert "ltu pool" in (folder / "report.html").read_text()


def test_pools_add_what_is_known_of_single_examples(audited):
    assert set(audited["apart"]) == {"unlearned", "retrain", "original"}
    assert all(set(parts) == set(PARTS) for parts in audited["apart"].values())
    assert set(audited["coins"]) == set(SHADOW)
    for attacks in audited["coins"].values():
        for found in attacks.values():
            assert 0 <= found["auc"] <= 100
            assert found["bound"].keys() == {"epsilon", "certifiable", "detectable"}
    assert audited["pools"]["shadow_unlearned"]["networks"] == 16


def test_attacks_like_the_methods_own_membership_models_are_kept_out(audited):
    tests = {test["name"]: test for test in audited["tests"]}
    assert "U-LiRA" in tests
    for name, test in tests.items():
        assert (test["adjusted"] is None) == bool(test["shares"]) == ("noisy" not in name)


def test_an_audit_made_again_is_the_same(finished, kept, audited):
    again = audit_run(finished, pools_in=kept, data=tiny.table(), quiet=True)
    assert again == audited


def test_one_of_the_pools_names_the_folder_as_well(plan, kept):
    one = next(kept.glob("retrain-*"))
    assert find_pools(plan, one).keys() == find_pools(plan, kept).keys()


def test_the_largest_pool_that_belongs_is_taken(plan, kept, tmp_path):
    shutil.copytree(kept, tmp_path / "pools")
    list(pools.make_pools(plan, ["retrain"], 9, tmp_path / "pools", quiet=True))
    assert len(find_pools(plan, tmp_path / "pools")["retrain"].couples) == 9
    list(pools.make_pools(plan, ["retrain"], 10, tmp_path / "other", quiet=True))
    with pytest.raises(InputError, match="found retrain"):
        find_pools(plan, tmp_path / "other")
    other = plan._replace(seed=plan.seed + 1)
    with pytest.raises(InputError, match="holds no pools of this run"):
        find_pools(other, tmp_path / "pools")


def test_a_class_forgotten_whole_has_no_coins_and_is_audited_without(small_run, tmp_path):
    import ltu_jax

    run = small_run(forget=ltu_jax.by_class("ill"), reference="none")
    plan = load_plan(run.folder, data=tiny.table())
    with pytest.raises(InputError, match="has a retain example of its class"):
        pools.make_pool(plan, "shadow", 2, tmp_path, None)
    list(pools.make_pools(plan, ["retrain", "unlearned"], 8, tmp_path, quiet=True))
    found = audit_run(run.folder, pools_in=tmp_path, data=tiny.table(), quiet=True)
    assert found["coins"] == {}
    assert found["apart"]["unlearned"]["forget"]["margin"]["networks"] == 4
    assert [row["model"] for row in found["population"]] == ["original", "ltu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "--alpha 0.0"),
        ({"alpha": float("nan")}, "--alpha nan"),
        ({"data": None}, "its data was made in Python"),
    ],
)
def test_bad_input_is_told_before_anything_is_computed(finished, options, message):
    with pytest.raises(InputError, match=message):
        audit_run(finished, **{"data": tiny.table(), "quiet": True, **options})


def test_pools_of_another_folder_are_missed_by_name(finished, tmp_path):
    with pytest.raises(InputError, match="ltu pool --run RUN --pools"):
        audit_run(finished, pools_in=tmp_path, data=tiny.table(), quiet=True)
