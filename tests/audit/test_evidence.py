"""Evidence from ensembles: none under the null hypothesis, and a leak where there is one."""

import numpy as np
import pytest
import scipy

from ltu_jax.audit import evidence, lira
from ltu_jax.audit.epsilon import Bound
from ltu_jax.data.inclusion import draw_inclusion

MODELS, PAIRS = 32, 30


def ensemble(rng, leak):
    """Scores of paired models that share an offset; included examples score `leak` higher."""
    inclusion = draw_inclusion(MODELS, PAIRS, seed=int(rng.integers(2**31)))
    included = np.concatenate([inclusion, ~inclusion], axis=1)
    offsets = np.repeat(rng.normal(size=(MODELS // 2, 1)), 2, axis=0)
    phi = offsets + rng.normal(size=2 * PAIRS) + rng.normal(size=included.shape)
    return phi + leak * included, included, inclusion


def attack(rng, leak):
    phi, included, inclusion = ensemble(rng, leak)
    model_pairs = np.arange(MODELS) // 2
    scores, halved = (
        lira.leave_one_out_lira(phi, included, model_pairs, halved=halved)
        for halved in (False, True)
    )
    return evidence.attack_membership(scores, halved, inclusion, model_pairs, alpha=0.05)


@pytest.mark.slow
def test_no_evidence_under_the_null_hypothesis():
    rng = np.random.default_rng(0)
    found = [attack(rng, 0.0) for _ in range(100)]
    most = scipy.stats.binom.isf(1e-3, 100, 0.05)
    assert sum(one["p_value"] < 0.05 for one in found) <= most
    assert sum(one["bound"].epsilon > 0 for one in found) <= most
    outside = [not one["auc_interval"][0] <= 50 <= one["auc_interval"][1] for one in found]
    assert sum(outside) <= most
    assert np.mean([one["auc"] for one in found]) == pytest.approx(50, abs=0.6)
    assert np.mean([one["worst_5"] for one in found]) == pytest.approx(50, abs=3)


def test_a_leak_is_found_and_grows():
    rng = np.random.default_rng(1)
    weak, strong = attack(rng, 0.5), attack(rng, 2.0)
    assert weak["p_value"] < 1e-3
    assert 50 < weak["auc"] < strong["auc"]
    assert 0 < weak["bound"].epsilon < strong["bound"].epsilon <= strong["bound"].certifiable
    assert weak["auc_interval"][0] < weak["auc"] < weak["auc_interval"][1]
    assert strong["swap"] > weak["swap"]


def test_a_leak_in_one_example_shows_among_the_worst():
    rng = np.random.default_rng(2)
    inclusion = draw_inclusion(MODELS, PAIRS, seed=0)
    included = np.concatenate([inclusion, ~inclusion], axis=1)
    phi = rng.normal(size=included.shape)
    phi[:, 7] += 4 * included[:, 7]
    model_pairs = np.arange(MODELS) // 2
    scores, halved = (
        lira.leave_one_out_lira(phi, included, model_pairs, halved=halved)
        for halved in (False, True)
    )
    found = evidence.attack_membership(scores, halved, inclusion, model_pairs, alpha=0.05)
    assert found["worst_1"] > 90
    assert found["auc"] < 55


def test_models_of_one_distribution_are_not_distinguished():
    rng = np.random.default_rng(3)
    found = [
        evidence.distinguish(rng.normal(size=(20, 40)), rng.normal(size=(20, 40)), alpha=0.05)
        for _ in range(60)
    ]
    most = scipy.stats.binom.isf(1e-3, 60, 0.05)
    assert sum(one["p_value"] < 0.05 for one in found) <= most
    assert sum(one["shift_p"] < 0.05 for one in found) <= most
    assert sum(one["bound"].epsilon > 0 for one in found) <= most
    assert sum(one["klom"]["p_value"] < 0.05 for one in found) <= most


@pytest.mark.parametrize(("shift", "sign"), [(3.0, 1), (-3.0, -1)])
def test_under_and_over_unlearned_models_are_distinguished_with_the_sign_of_the_shift(shift, sign):
    rng = np.random.default_rng(4)
    retrained = rng.normal(size=(20, 40))
    found = evidence.distinguish(rng.normal(size=(20, 40)) + shift, retrained, alpha=0.05)
    assert found["p_value"] < 1e-3
    assert np.sign(found["shift"]) == sign
    assert found["shift_p"] < 1e-6
    assert found["klom"]["mean"] > found["klom"]["floor_95"]


def test_an_ensemble_has_no_distance_from_itself():
    margins = np.random.default_rng(5).normal(size=(20, 10))
    assert evidence.summarise_klom(margins, margins)["mean"] == pytest.approx(0, abs=1e-12)


def test_only_tests_without_shared_features_are_corrected():
    bound = Bound(0.0, 1.0, 1.0)
    tests = [
        evidence.Evidence("a", "", 0.01, "", bound),
        evidence.Evidence("b", "features", 0.001, "", bound),
        evidence.Evidence("c", "", 0.04, "", bound),
    ]
    assert [test.adjusted for test in evidence.correct(tests)] == [0.02, None, 0.04]
    assert evidence.correct(tests[1:2])[0].adjusted is None


def test_bounds_become_plain():
    plain = evidence.plain_bounds({"a": {"b": Bound(1.0, 2.0, 3.0)}, "c": 4})
    assert plain == {
        "a": {"b": {"epsilon": 1.0, "certifiable": 2.0, "detectable": 3.0}},
        "c": 4,
    }
