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
from ltu_jax.errors import InputError

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
    for actual, expected in zip(roc.curve(positive, negative), by_threshold(positive, negative)):
        np.testing.assert_array_equal(actual, expected)


@given(samples, samples)
def test_auc_is_the_share_of_pairs_and_of_ranks_alone(positive, negative):
    pairs = positive[:, None] - negative
    actual = roc.auc(positive, negative)
    assert actual == pytest.approx(np.mean((np.sign(pairs) + 1) / 2), abs=1e-12)
    assert roc.auc(np.exp(positive), np.exp(negative)) == actual
    assert roc.auc(-positive, -negative) == pytest.approx(1 - actual)
    assert roc.partial_auc(positive, negative, 1.0) == pytest.approx(actual)


def test_infinite_scores_are_the_largest_and_smallest():
    positive, negative = np.array([np.inf, 1.0, 2.0]), np.array([-np.inf, 1.5, np.inf])
    finite = np.array([9.0, 1.0, 2.0]), np.array([-9.0, 1.5, 9.0])
    np.testing.assert_array_equal(roc.curve(positive, negative)[:2], roc.curve(*finite)[:2])
    assert roc.curve(positive, negative)[2].tolist() == [np.inf, np.inf, 2, 1.5, 1, -np.inf]
    assert roc.auc(positive, negative) == roc.auc(*finite)
    assert roc.delong(positive, negative) == roc.delong(*finite)


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
    hull_fpr, hull_tpr = roc.hull(positive, negative)
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
        found = roc.decision(positive, negative, thresholds[i])
        false_alarms = len(negative) * fpr[i]
        right = hits[i] + len(negative) - false_alarms
        assert found.accuracy == pytest.approx(right / (len(positive) + len(negative)))
        assert found.precision == pytest.approx(hits[i] / (hits[i] + false_alarms))
        assert found.recall == tpr[i]
    assert np.isnan(roc.decision(positive, negative, 99.0).precision)


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
    estimate, low, high = roc.delong(positive, negative, alpha=0.1)
    assert estimate == pytest.approx(wins.mean())
    centre = np.log(estimate / (1 - estimate))
    reach = stats.norm.isf(0.05) * np.sqrt(variance) / (estimate * (1 - estimate))
    for end, value in ((low, centre - reach), (high, centre + reach)):
        assert np.log(end / (1 - end)) == pytest.approx(value)


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (30, 50)), (1.5, (60, 40))])
def test_intervals_hold_the_true_auc(shift, sizes):
    true = stats.norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(2)
    delong = bootstrap = 0
    for draw in range(600):
        pair = rng.normal(shift, 1, sizes[0]), rng.normal(0, 1, sizes[1])
        found = roc.delong(*pair)
        delong += found.low <= true <= found.high
        if draw < 150:
            found = roc.bootstrap_auc(*pair, draws=150, seed=draw)
            bootstrap += found.low <= true <= found.high
    # Four standard deviations of a binomial share: 3.6 points of 600 draws, 7.1 of 150.
    assert delong / 600 == pytest.approx(0.95, abs=0.036)
    assert bootstrap / 150 == pytest.approx(0.95, abs=0.071)


def test_delong_stays_sane_where_the_variance_vanishes():
    low, high = np.arange(10.0), np.arange(20, 50.0)
    same = 0.025**0.1
    assert roc.delong(high, low) == pytest.approx((1.0, same, 1.0))
    assert roc.delong(low, high) == pytest.approx((0.0, 0.0, 1 - same))
    assert roc.delong(np.ones(10), np.ones(30)) == pytest.approx((0.5, same / 2, 1 - same / 2))
    # More scores narrow it.
    assert roc.delong(np.arange(5000, 6000), np.arange(1000)).low > 0.996


def model_scores(rng, models, each):
    """Scores whose model shifts them all together, and the model's number."""
    shift = np.repeat(rng.normal(size=models), each)
    return shift + 0.2 * rng.normal(size=models * each), np.repeat(np.arange(models), each)


def test_bootstrap_over_models_holds_the_true_auc_where_scores_alone_do_not():
    rng = np.random.default_rng(3)
    inside = {"scores": 0, "models": 0}
    for draw in range(100):
        positive, positive_groups = model_scores(rng, 25, 8)
        negative, negative_groups = model_scores(rng, 25, 8)
        groups = {
            "scores": {},
            "models": {
                "positive_groups": positive_groups,
                "negative_groups": 100 + negative_groups,
            },
        }
        for name, given_groups in groups.items():
            found = roc.bootstrap_auc(positive, negative, draws=120, seed=draw, **given_groups)
            inside[name] += found.low <= 0.5 <= found.high
    assert inside["models"] >= 84
    assert inside["scores"] < 70


def test_bootstrap_keeps_a_models_scores_together():
    """Each model separates its own perfectly, by its own shift: drawn together they always do."""
    shift = np.arange(5) * 10.0
    found = roc.bootstrap_auc(
        np.append(shift + 1, [99.0, 99.0]),
        shift,
        positive_groups=list("abcdexy"),
        negative_groups=list("abcde"),
    )
    assert found.estimate == pytest.approx((15 + 10) / 35)
    # Whichever models are drawn, each wins against itself, and each pair of two is won one way.
    assert found.low > 0.5
    apart = roc.bootstrap_auc(np.append(shift + 1, [99.0, 99.0]), shift)
    assert apart.low < 0.5


def test_bootstrap_draws_kinds_of_models_apart():
    """2 models with scores of both kinds, 12 with positives alone: no draw lacks negatives."""
    found = roc.bootstrap_auc(
        np.arange(14.0), np.zeros(2), positive_groups=np.arange(14), negative_groups=[0, 1]
    )
    # Ties count half: 0 and 1 against 0 are drawn in twos, and the other 12 always win.
    assert found.low == pytest.approx(13 / 14)
    assert found.high == 1.0
    constant = roc.bootstrap_auc(np.ones(5), np.ones(7))
    assert constant == (0.5, 0.5, 0.5)


def test_bootstrap_is_seeded_and_narrows_with_alpha():
    rng = np.random.default_rng(4)
    pair = rng.normal(1, 1, 50), rng.normal(0, 1, 50)
    first = roc.bootstrap_auc(*pair, draws=200, seed=1)
    assert first == roc.bootstrap_auc(*pair, draws=200, seed=1)
    assert first != roc.bootstrap_auc(*pair, draws=200, seed=2)
    narrow = roc.bootstrap_auc(*pair, draws=200, seed=1, alpha=0.5)
    assert first.low < narrow.low < narrow.estimate < narrow.high < first.high
    own = roc.bootstrap_auc(*pair, draws=200, seed=1, positive_groups=np.arange(50))
    assert own.estimate == first.estimate


BAD_INPUT = {
    "positive holds 1 NaN": lambda: roc.auc([1, np.nan], [0]),
    "negative has shape": lambda: roc.curve([1], []),
    "level is 1.5": lambda: roc.tpr_at_fpr([1], [0], 1.5),
    "level is nan": lambda: roc.tpr_at_fpr([1], [0], np.nan),
    "level is 0,": lambda: roc.tpr_at_fpr([1], [0], 0.0, "below"),
    "convention is 'first'": lambda: roc.tpr_at_fpr([1], [0], 0.1, "first"),
    "max_fpr is 0": lambda: roc.partial_auc([1], [0], 0),
    "N of 2 or more": lambda: roc.delong([1], [0, 1]),
    "alpha is 5": lambda: roc.delong([1, 2], [0, 1], alpha=5),
    "draws is 0": lambda: roc.bootstrap_auc([1, 2], [0, 1], draws=0),
    "positive_groups has shape": lambda: roc.bootstrap_auc([1, 2], [0, 1], positive_groups=[1]),
    "1 group of some kind": lambda: roc.bootstrap_auc([1, 2], [0, 1], positive_groups=[1, 1]),
}


@pytest.mark.parametrize("message", BAD_INPUT)
def test_bad_input(message):
    with pytest.raises(InputError, match=message):
        BAD_INPUT[message]()
