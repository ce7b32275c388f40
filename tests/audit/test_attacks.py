"""Population attacks: closed forms, scikit-learn's AUC, invariances, null calibration."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import auc, roc_auc_score

from ltu_jax.audit import attacks, bounds, features, roc, signals
from tests.refusals import refused


def test_examples():
    assert doctest.testmod(attacks) == (0, 4)


def test_svc_mia_on_separated_scores():
    members, nonmembers = np.linspace(0.9, 1.0, 20), np.linspace(0.0, 0.1, 20)
    assert attacks.svc_mia(members, nonmembers, members) == 0.0
    assert attacks.svc_mia(members, nonmembers, nonmembers) == 100.0
    half = np.concatenate([members[:5], nonmembers[:5]])
    assert attacks.svc_mia(members, nonmembers, half) == 50.0


samples = arrays(np.float64, st.integers(1, 30), elements=st.integers(-5, 5).map(float))


@given(samples, samples)
def test_loss_auc_is_sklearns_and_blind_to_monotone_maps(forget, test):
    actual = attacks.loss_auc(forget, test)
    is_forget = np.repeat([1, 0], [len(forget), len(test)])
    expected = 100 * roc_auc_score(is_forget, -np.concatenate([forget, test]))
    assert actual == pytest.approx(expected, abs=1e-9)
    assert attacks.loss_auc(np.exp(forget), np.exp(test)) == actual
    assert attacks.loss_auc(3 * forget - 7, 3 * test - 7) == actual
    assert attacks.loss_auc(test, forget) == pytest.approx(100 - actual)


def test_loss_auc_closed_forms():
    assert attacks.loss_auc(np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.5])) == 100.0
    assert attacks.loss_auc(np.array([0.3]), np.array([0.1, 0.2])) == 0.0
    assert attacks.loss_auc(np.array([1.0, 1.0]), np.array([1.0])) == 50.0
    assert attacks.loss_auc(np.array([0.0, 2.0]), np.array([1.0, 2.0])) == 62.5


@given(samples, samples)
def test_roc_holds_the_auc_and_the_ks_distance(forget, test):
    fpr, tpr = roc.roc_curve(-forget, -test, drop_intermediate=True)[:2]
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert 100 * auc(fpr, tpr) == pytest.approx(attacks.loss_auc(forget, test), abs=1e-9)
    distance = attacks.ks_distance(forget, test)
    assert 100 * np.max(np.abs(tpr - fpr)) == pytest.approx(distance, abs=1e-9)


def test_ks_distance_closed_forms():
    first, second = np.split(np.random.default_rng(0).normal(size=130), [50])
    expected = 100 * stats.ks_2samp(first, second).statistic
    assert attacks.ks_distance(first, second) == pytest.approx(expected)
    assert attacks.ks_distance(np.arange(5), np.arange(5)) == 0.0
    assert attacks.ks_distance(np.arange(5), np.arange(5) + 10) == 100.0
    assert attacks.ks_distance(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 50.0


def test_loss_logistic_on_separated_losses():
    forget, test = np.linspace(0, 0.5, 40), np.linspace(9.5, 10, 90)
    assert attacks.loss_logistic_accuracy(forget, test) == 100.0
    assert attacks.loss_logistic_accuracy(test, forget) == 100.0
    # Half of the forget set looks like the test set, whose losses are all alike.
    half = np.concatenate([np.full(20, 0.0), np.full(20, 10.0)])
    assert attacks.loss_logistic_accuracy(half, np.full(90, 10.0)) == pytest.approx(75.0)


def test_loss_logistic_is_at_chance_under_the_null():
    attack = attacks.loss_logistic_accuracy
    rng = np.random.default_rng(0)
    draws = [
        attack(rng.exponential(size=50), rng.exponential(size=80), folds=5, seed=i)
        for i in range(40)
    ]
    # Balanced by drawing: with 80 against 50 the larger class alone would score 61.5.
    assert np.mean(draws) == pytest.approx(50, abs=4 * np.std(draws) / np.sqrt(40))
    assert np.std(draws) < 10
    losses = rng.exponential(size=50), rng.exponential(size=80)
    assert attack(*losses, seed=3) == attack(*losses, seed=3)


def outputs(rng, size, *, gain=0.0, spread=2.0):
    """Logits of 10 classes whose label gets `gain`, the others' deviation being `spread`."""
    labels = rng.integers(0, 10, size)
    logits = spread * rng.normal(size=(size, 10))
    logits[np.arange(size), labels] += 2 + gain
    return logits, labels


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_supervised_is_at_chance_under_the_null(count):
    rng = np.random.default_rng(1)
    draws = [attacks.supervised_auc(*outputs(rng, 40), *outputs(rng, 60)) for _ in range(count)]
    band = bounds.auc_floor_band(40, 60)
    deviation = (band[1] - band[0]) / 2 / stats.norm.isf(0.025)
    # Its spread is 1.25 times the band's; normal draws exceed the second bound with chance .026.
    spread = 1.25 * deviation
    assert np.mean(draws) == pytest.approx(50, abs=4 * spread / np.sqrt(count))
    assert np.std(draws) < spread * np.sqrt(stats.chi2.isf(0.026, count - 1) / count)


def test_supervised_finds_a_forget_set_that_thresholds_on_the_loss_do_not():
    """Losses of the forget set all in the middle of the test set's: loss AUC 50, plainly odd."""
    rng = np.random.default_rng(2)
    test, test_labels = outputs(rng, 200)
    forget, forget_labels = outputs(rng, 100)
    losses = signals.loss(test, test_labels)
    p = np.exp(-np.quantile(losses, rng.uniform(0.45, 0.55, 100)))
    forget = np.log(np.broadcast_to(((1 - p) / 9)[:, None], (100, 10)).copy())
    forget[np.arange(100), forget_labels] = np.log(p)
    assert attacks.loss_auc(signals.loss(forget, forget_labels), losses) == pytest.approx(50, abs=5)
    both = forget, forget_labels, test, test_labels
    found = attacks.supervised_auc(*both)
    assert found > 95
    assert attacks.supervised_auc(*both) == found


@pytest.mark.parametrize(
    "sizes", [(20, 20), pytest.param((20, 60), marks=pytest.mark.slow), (150, 150)]
)
def test_supervised_finds_memorised_examples(sizes):
    rng = np.random.default_rng(sizes)
    forget, test = outputs(rng, sizes[0], gain=8.0), outputs(rng, sizes[1])
    assert attacks.supervised_auc(*forget, *test) > 80
    assert attacks.supervised_auc(*test, *forget) > 80


def test_two_model_ranks_by_the_drop():
    forget, test = np.array([9.0, 8.0, 3.0]), np.array([1.0, 2.0, 4.0])
    assert attacks.two_model_auc(forget, forget - 5, test, test) == 100.0
    assert attacks.two_model_auc(forget, forget + 5, test, test) == 0.0
    assert attacks.two_model_auc(forget, forget, test, test) == 50.0
    drops = np.array([7.0, 3.0, 0.0]), np.array([0.0, 0.0, 1.0])
    # 6 of 9 pairs won, 2 tied.
    found = attacks.two_model_auc(forget, forget - drops[0], test, test - drops[1])
    assert found == pytest.approx(100 * 7 / 9)


def test_two_model_sees_what_one_model_hides():
    """Margins of the forget set brought to the test set's distribution: one model tells nothing."""
    rng = np.random.default_rng(3)
    original_test, original_forget = rng.normal(0, 1, 500), rng.normal(3, 1, 500)
    unlearned_test = original_test + rng.normal(0, 0.5, 500)
    unlearned_forget = rng.permutation(unlearned_test)
    assert attacks.loss_auc(-unlearned_forget, -unlearned_test) == pytest.approx(50)
    both = original_forget, unlearned_forget, original_test, unlearned_test
    assert attacks.two_model_auc(*both) > 90


def shadow_sets(rng, members=8.0):
    """Members with a higher logit of the label by `members`, non-members, and two targets."""
    gains = {"members": members, "nonmembers": 0.0, "seen": members, "unseen": 0.0}
    return [features.LabelledLogits(*outputs(rng, 300, gain=gain)) for gain in gains.values()]


def test_all_features_find_members_and_are_at_chance_under_the_null():
    rng = np.random.default_rng(4)
    sets = shadow_sets(rng)
    members, nonmembers, seen, unseen = sets
    efficacy_unseen = features.svc_mia_by_feature(members, nonmembers, unseen)
    efficacy_seen = features.svc_mia_by_feature(members, nonmembers, seen)
    privacy = features.svc_training_privacy(*sets)
    for name, value in privacy.items():
        assert value > 65, name
        expected = (100 - efficacy_seen[name] + efficacy_unseen[name]) / 2
        assert value == pytest.approx(expected), name
    assert all(sum(found) / 2 > 65 for found in features.threshold_attacks(*sets).values())

    null = shadow_sets(rng, members=0.0)
    balanced = [sum(found) / 2 for found in features.threshold_attacks(*null).values()]
    balanced += features.svc_training_privacy(*null).values()
    # 300 a side: the standard deviation of a balanced accuracy is 2.04 points at most.
    np.testing.assert_allclose(balanced, 50, atol=4 * 2.05)


def test_confidence_feature_is_svc_mia():
    members, nonmembers, _, forget = shadow_sets(np.random.default_rng(5), members=2.0)
    confidences = [signals.confidence(*data) for data in (members, nonmembers, forget)]
    found = features.svc_mia_by_feature(members, nonmembers, forget)
    assert found["confidence"] == attacks.svc_mia(*confidences)
    released = features.svc_mia_by_feature(members, nonmembers, forget, variant="salun-2024")
    changed = {name for name in found if found[name] != released[name]}
    assert changed == {"modified_entropy"}


def two_classes(confidences, label):
    """Logits of 2 classes with these confidences in the one label."""
    p = np.asarray(confidences, float)
    wrong = np.log1p(-p)
    logits = np.stack([np.log(p), wrong] if label == 0 else [wrong, np.log(p)], axis=1)
    return logits, np.full(len(p), label)


def test_thresholds_are_set_for_each_class():
    """Class 0 is easy, class 1 hard: its members have the confidence of the other's non-members."""

    def both(easy, hard):
        parts = two_classes(easy, 0), two_classes(hard, 1)
        return features.LabelledLogits(*(np.concatenate(column) for column in zip(*parts)))

    members, nonmembers = both([0.95, 0.99], [0.6, 0.7]), both([0.6, 0.7], [0.1, 0.2])
    seen, unseen = both([0.97, 0.94], [0.65, 0.61]), both([0.65, 0.6], [0.15, 0.9])
    found = features.threshold_attacks(members, nonmembers, seen, unseen)
    # The thresholds are .95 and .6: .94 is missed, and .9 in class 1 taken for a member.
    assert found["confidence"] == (75.0, 75.0)
    # Right are all of the seen and 3 of the 4 unseen.
    assert found["correctness"] == (100.0, 25.0)


BAD_INPUT = [
    ("members", lambda: attacks.svc_mia([np.nan, 1], [0, 1], [1])),
    ("targets", lambda: attacks.svc_mia([[1, 2]], [[0, 1]], [1])),
    ("forget_loss", lambda: attacks.loss_auc([0.1, np.nan], [0.2])),
    ("test_loss", lambda: attacks.loss_auc([0.1], [])),
    ("folds", lambda: attacks.loss_logistic_accuracy([0.1, 0.2], [0.3, 0.4], folds=1)),
    ("forget_loss", lambda: attacks.loss_logistic_accuracy(np.arange(9), np.arange(20))),
    ("first", lambda: attacks.ks_distance([np.nan], [1])),
    ("unlearned_margin_test", lambda: attacks.two_model_auc([1], [2], [1], [1, 2])),
    ("original_margin_forget", lambda: attacks.two_model_auc([np.inf], [2], [1], [1])),
    (
        "forget",
        lambda: attacks.supervised_auc(
            np.zeros((19, 3)), np.zeros(19, int), np.zeros((30, 3)), np.zeros(30, int)
        ),
    ),
    (
        "forget",
        lambda: attacks.supervised_auc(
            np.zeros((20, 3)), np.repeat([0, 3], 10), np.zeros((30, 3)), np.zeros(30, int)
        ),
    ),
    (
        "nonmembers",
        lambda: features.threshold_attacks(
            (np.eye(2), [0, 1]), (np.eye(2), [0, 0]), (np.eye(2), [0, 1]), (np.eye(2), [0, 0])
        ),
    ),
]


@pytest.mark.parametrize(("argument", "call"), BAD_INPUT)
def test_bad_input(argument, call):
    with refused(argument):
        call()
