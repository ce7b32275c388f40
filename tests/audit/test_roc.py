"""ROC readings by brute force over thresholds, and how often the intervals hold the true AUC."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from ltu_jax.audit import roc
from tests.refusals import refused

samples = arrays(np.float64, st.integers(1, 25), elements=st.integers(-5, 5).map(float))
levels = st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.25, 0.5, 0.9, 1.0])


def by_threshold(positive, negative):
    """FPR and TPR of every rule "score >= threshold", by definition."""
    thresholds = np.append(np.inf, np.unique(np.concatenate([positive, negative]))[::-1])
    rates = [
        [np.mean(sample >= threshold) for threshold in thresholds]
        for sample in (negative, positive)
    ]
    return *np.array(rates), thresholds


def test_examples():
    assert doctest.testmod(roc).failed == 0


@given(samples, samples)
def test_curve_is_every_threshold(positive, negative):
    for actual, expected in zip(
        roc.roc_curve(positive, negative), by_threshold(positive, negative)
    ):
        np.testing.assert_array_equal(actual, expected)


@given(samples, samples)
def test_auc_is_the_share_of_pairs_and_of_ranks_alone(positive, negative):
    pairs = positive[:, None] - negative
    actual = roc.roc_auc(positive, negative)
    assert actual == pytest.approx(np.mean((np.sign(pairs) + 1) / 2), abs=1e-12)
    assert roc.roc_auc(np.exp(positive), np.exp(negative)) == actual
    assert roc.roc_auc(-positive, -negative) == pytest.approx(1 - actual)
    assert roc.partial_auc(positive, negative, 1.0) == pytest.approx(actual)


def test_infinite_scores_are_the_largest_and_smallest():
    positive, negative = np.array([np.inf, 1.0, 2.0]), np.array([-np.inf, 1.5, np.inf])
    finite = np.array([9.0, 1.0, 2.0]), np.array([-9.0, 1.5, 9.0])
    np.testing.assert_array_equal(roc.roc_curve(positive, negative)[:2], roc.roc_curve(*finite)[:2])
    assert roc.roc_curve(positive, negative)[2].tolist() == [np.inf, np.inf, 2, 1.5, 1, -np.inf]
    assert roc.roc_auc(positive, negative) == roc.roc_auc(*finite)
    assert roc.auc_interval(positive, negative) == roc.auc_interval(*finite)


def test_partial_auc_is_sklearns():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 40), rng.normal(0, 1, 70)
    is_positive = np.repeat([1, 0], [40, 70])
    for level in (0.05, 0.3):
        expected = roc_auc_score(is_positive, np.append(positive, negative), max_fpr=level)
        assert roc.partial_auc(positive, negative, level) == pytest.approx(expected)


@given(samples, samples, levels)
def test_conventions_by_definition(positive, negative, level):
    fpr, tpr, _ = by_threshold(positive, negative)
    found = {
        name: roc.tpr_at_fpr(positive, negative, level, name)
        for name in ("last", "nearest", "hull")
    }
    assert found["last"].tpr == np.max(tpr[fpr <= level])
    assert found["last"].fpr == np.max(fpr[fpr <= level])
    assert found["hull"].tpr >= found["last"].tpr - 1e-12
    assert found["nearest"] in [(t, f, len(negative)) for f, t in zip(fpr, tpr)]
    assert {point.negatives for point in found.values()} == {len(negative)}
    if level > 0:
        below = roc.tpr_at_fpr(positive, negative, level, "below")
        assert below.tpr == np.max(tpr[fpr < level])
        assert below.tpr <= found["last"].tpr


def test_conventions_differ_where_they_should():
    """900 negatives: 1 in 1000 means no false positive, and what is nearest has one."""
    negative = np.arange(900.0)
    positive = np.array([900.5] * 2 + [898.5] * 3 + [-1.0] * 5)
    assert roc.tpr_at_fpr(positive, negative, 0.001) == (0.2, 0.0, 900)
    assert roc.tpr_at_fpr(positive, negative, 0.001, "nearest") == (0.2, 1 / 900, 900)
    assert roc.tpr_at_fpr(positive, negative, 1 / 900) == (0.5, 1 / 900, 900)
    assert roc.tpr_at_fpr(positive, negative, 1 / 900, "below") == (0.2, 0.0, 900)
    hull = roc.tpr_at_fpr(positive, negative, 0.001, "hull")
    assert hull.tpr == pytest.approx(0.2 + 0.9 * 0.3)


def test_nearest_looks_at_corners_alone():
    """Along the flat stretch from FPR 0 to 1 there is none, as in scikit-learn's default curve."""
    positive, negative = np.array([10.0, -1.0]), np.arange(10.0)
    assert roc.tpr_at_fpr(positive, negative, 0.4, "nearest") == (0.0, 0.0, 10)
    assert roc.tpr_at_fpr(positive, negative, 0.6, "nearest") == (0.5, 1.0, 10)
    assert roc.tpr_at_fpr(positive, negative, 0.4) == (0.5, 0.4, 10)


@given(samples, samples)
def test_hull_is_concave_above_the_curve_and_made_of_its_points(positive, negative):
    fpr, tpr, _ = by_threshold(positive, negative)
    fp, tp = roc.roc_hull(positive, negative)
    hull_fpr, hull_tpr = fp / len(negative), tp / len(positive)
    assert set(zip(hull_fpr, hull_tpr)) <= set(zip(fpr, tpr))
    assert (hull_fpr[0], hull_tpr[0], hull_fpr[-1], hull_tpr[-1]) == (0, 0, 1, 1)
    right, up = np.diff(hull_fpr), np.diff(hull_tpr)
    assert (up[:-1] * right[1:] >= up[1:] * right[:-1] - 1e-12).all()
    # No point of the curve lies above the line through any side.
    for x, y, dx, dy in zip(hull_fpr, hull_tpr, right, up):
        assert ((tpr - y) * dx <= (fpr - x) * dy + 1e-12).all()


@given(samples, samples)
def test_best_balanced_accuracy_and_decisions(positive, negative):
    fpr, tpr, thresholds = by_threshold(positive, negative)
    best = np.max((tpr + 1 - fpr) / 2)
    assert roc.best_balanced_accuracy(positive, negative) == pytest.approx(best)
    hits = len(positive) * tpr
    for i in range(1, len(thresholds)):
        found = roc.decide(positive, negative, thresholds[i])
        false_alarms = len(negative) * fpr[i]
        right = hits[i] + len(negative) - false_alarms
        assert found.accuracy == pytest.approx(right / (len(positive) + len(negative)))
        assert found.precision == pytest.approx(hits[i] / (hits[i] + false_alarms))
        assert found.recall == tpr[i]
    assert np.isnan(roc.decide(positive, negative, 99.0).precision)


def test_best_balanced_accuracy_under_exact_unlearning():
    """(1 + KS) / 2, whose 95 % point by Kolmogorov's limit is .596 at 100 a side."""
    rng = np.random.default_rng(0)
    draws = [roc.best_balanced_accuracy(*rng.normal(size=(2, 100))) for _ in range(500)]
    one_sided = (1 + np.sqrt(-np.log(0.05) / 2 * 2 / 100)) / 2
    assert np.mean(np.array(draws) > one_sided) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 500)
    assert np.quantile(draws, 0.95) == pytest.approx(one_sided, abs=0.015)


def test_delong_variance_by_definition():
    rng = np.random.default_rng(1)
    positive, negative = rng.integers(0, 9, 30) + 2.0, rng.integers(0, 9, 45) * 1.0
    wins = (np.sign(positive[:, None] - negative) + 1) / 2
    variance = np.var(wins.mean(1), ddof=1) / 30 + np.var(wins.mean(0), ddof=1) / 45
    estimate, low, high = roc.auc_interval(positive, negative, alpha=0.1)
    assert estimate == pytest.approx(wins.mean())
    centre = np.log(estimate / (1 - estimate))
    reach = stats.norm.isf(0.05) * np.sqrt(variance) / (estimate * (1 - estimate))
    for end, value in ((low, centre - reach), (high, centre + reach)):
        assert np.log(end / (1 - end)) == pytest.approx(value)


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (30, 50)), (1.5, (60, 40))])
def test_intervals_hold_the_true_auc(shift, sizes):
    true = stats.norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(600):
        pair = rng.normal(shift, 1, sizes[0]), rng.normal(0, 1, sizes[1])
        found = roc.auc_interval(*pair)
        inside += found.low <= true <= found.high
    # Four standard deviations of a binomial share of 600 draws: 3.6 percentage points.
    assert inside / 600 == pytest.approx(0.95, abs=0.036)


def test_delong_stays_sane_where_the_variance_vanishes():
    low, high = np.arange(10.0), np.arange(20, 50.0)
    same = 0.025**0.1
    assert roc.auc_interval(high, low) == pytest.approx((1.0, same, 1.0))
    assert roc.auc_interval(low, high) == pytest.approx((0.0, 0.0, 1 - same))
    assert roc.auc_interval(np.ones(10), np.ones(30)) == pytest.approx(
        (0.5, same / 2, 1 - same / 2)
    )
    # More scores narrow it.
    assert roc.auc_interval(np.arange(5000, 6000), np.arange(1000)).low > 0.996


BAD_INPUT = [
    ("positive", lambda: roc.roc_auc([1, np.nan], [0])),
    ("negative", lambda: roc.roc_curve([1], [])),
    ("level", lambda: roc.tpr_at_fpr([1], [0], 1.5)),
    ("level", lambda: roc.tpr_at_fpr([1], [0], np.nan)),
    ("level", lambda: roc.tpr_at_fpr([1], [0], 0.0, "below")),
    ("convention", lambda: roc.tpr_at_fpr([1], [0], 0.1, "first")),
    ("max_fpr", lambda: roc.partial_auc([1], [0], 0)),
    ("positive", lambda: roc.auc_interval([1], [0, 1])),
    ("alpha", lambda: roc.auc_interval([1, 2], [0, 1], alpha=5)),
]


@pytest.mark.parametrize(("argument", "call"), BAD_INPUT)
def test_bad_input(argument, call):
    with refused(argument):
        call()
