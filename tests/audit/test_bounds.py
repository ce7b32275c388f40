"""Floors: closed forms, and how often exact unlearning really stays inside them."""

import doctest
from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats

from ltu_jax.audit import attacks, bounds, roc
from tests.refusals import refused


def test_auc_band_has_the_exact_variance():
    """All orders of 2 forget and 3 test losses: the variance that the band's width stands for."""
    ranks = range(5)
    aucs = [
        attacks.loss_auc(np.array(forget), np.array([r for r in ranks if r not in forget]))
        for forget in combinations(ranks, 2)
    ]
    low, high = bounds.auc_floor_band(2, 3, alpha=0.5)
    assert (high - low) / 2 / stats.norm.isf(0.25) == pytest.approx(np.std(aucs))
    assert (low + high) / 2 == pytest.approx(50)


def test_auc_band_narrows_and_is_clipped():
    assert bounds.auc_floor_band(1, 1) == (0.0, 100.0)
    widths = [np.diff(bounds.auc_floor_band(n, n))[0] for n in (20, 200, 2000)]
    assert widths[0] > widths[1] > widths[2]
    assert np.diff(bounds.auc_floor_band(50, 80, alpha=0.01)) > np.diff(
        bounds.auc_floor_band(50, 80, alpha=0.1)
    )


@pytest.mark.parametrize(("n_forget", "n_test"), [(10, 15), (40, 120), (180, 300)])
def test_exact_unlearning_stays_inside(n_forget, n_test):
    """2,000 exchangeable draws: 95 % inside the AUC band, at least 95 % inside the ROC band."""
    rng = np.random.default_rng([n_forget, n_test])
    low, high = bounds.auc_floor_band(n_forget, n_test)
    inside_auc = inside_ks = inside_roc = 0
    draws = 2000
    for draw in range(draws):
        forget, test = np.split(rng.normal(size=n_forget + n_test), [n_forget])
        inside_auc += low <= attacks.loss_auc(forget, test) <= high
        inside_ks += attacks.ks_distance(forget, test) <= bounds.ks_floor(n_forget, n_test)
        if draw < 100:
            fpr, tpr = roc.roc_curve(forget, test, drop_intermediate=True)[:2]
            reach = bounds.ks_floor(n_forget, n_test) / 100
            inside_roc += np.all(np.abs(tpr - fpr) <= reach + 1e-12)
    # Four standard deviations of a binomial share around 95 % of 2,000 draws are 1.95 points.
    assert inside_auc / draws == pytest.approx(0.95, abs=0.0195)
    assert inside_ks / draws >= 0.95 - 0.0195
    assert inside_roc >= 86


def test_a_memorised_forget_set_is_outside():
    rng = np.random.default_rng(0)
    forget, test = rng.normal(-1, 1, 200), rng.normal(0, 1, 400)
    assert attacks.loss_auc(forget, test) > bounds.auc_floor_band(200, 400)[1]
    assert attacks.ks_distance(forget, test) > bounds.ks_floor(200, 400)


def test_ks_floor_is_kolmogorovs():
    """1.3581 is Kolmogorov's tabled 95 % point."""
    assert bounds.ks_floor(1000, 1000) == pytest.approx(135.81 * np.sqrt(2 / 1000), rel=1e-4)
    assert bounds.ks_floor(1, 1) == 100.0


def test_examples():
    result = doctest.testmod(bounds)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("n", [50, 100, 500, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_balanced_accuracy_floor_is_the_exact_law(n, alpha):
    """With n a side P(D >= k / n) is C(2n, n - k) / C(2n, n) by the reflection principle."""
    k = np.arange(1, n + 1)
    log_factorial = special.gammaln(np.arange(2 * n + 1) + 1)
    tail = np.exp(2 * log_factorial[n] - log_factorial[n - k] - log_factorial[n + k])
    largest_by_chance = np.sum(tail > alpha) / n
    floor = bounds.balanced_accuracy_floor(n, n, alpha=alpha)
    assert floor == pytest.approx((1 + largest_by_chance) / 2, abs=1e-12)


def test_balanced_accuracy_floor_of_small_unequal_sets():
    """All orders of 3 forget and 4 test scores."""
    best = []
    for forget in combinations(range(7), 3):
        is_forget = np.isin(np.arange(7), forget)
        tpr, fpr = np.cumsum(is_forget) / 3, np.cumsum(~is_forget) / 4
        best.append((1 + max(0.0, np.max(tpr - fpr))) / 2)
    for alpha in (0.05, 0.2, 0.5):
        floor = bounds.balanced_accuracy_floor(3, 4, alpha=alpha)
        assert np.mean(np.array(best) > floor + 1e-9) <= alpha
        assert np.mean(np.array(best) > floor - 1e-9) > alpha
        assert bounds.balanced_accuracy_floor(4, 3, alpha=alpha) == pytest.approx(floor)


@pytest.mark.parametrize("n_forget", [1, 20, 400])
def test_balanced_accuracy_floor_goes_on_smoothly_beyond_the_exact_law(n_forget):
    sizes = (bounds.EXACT_SIZE - n_forget, bounds.EXACT_SIZE - n_forget + 1)
    exact, beyond = (bounds.balanced_accuracy_floor(n_forget, n_test) for n_test in sizes)
    assert beyond == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("n_forget", "n_test"), [(30, 60), (400, 2000)])
def test_best_threshold_of_exact_unlearning_stays_below_the_floor(n_forget, n_test):
    rng = np.random.default_rng([3, n_forget])
    floor = bounds.balanced_accuracy_floor(n_forget, n_test)
    is_forget = np.repeat([True, False], [n_forget, n_test])
    orders = rng.permuted(np.tile(is_forget, (500, 1)), axis=1)
    tpr, fpr = np.cumsum(orders, axis=1) / n_forget, np.cumsum(~orders, axis=1) / n_test
    above = np.sum((1 + np.max(tpr - fpr, axis=1)) / 2 > floor + 1e-9)
    assert stats.binom.ppf(0.0001, 500, 0.01) <= above <= stats.binom.isf(0.001, 500, 0.05)


def test_holm_is_holms():
    """Step down by hand: 4 x .01, 3 x .02, 2 x .03 (held at .06), 1 x .9; and never above 1."""
    adjusted = bounds.holm([0.03, 0.01, 0.9, 0.02])
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 0.9, 0.06])
    assert bounds.holm([0.7, 0.6]).tolist() == [1.0, 1.0]
    assert bounds.holm([0.2]).tolist() == [0.2]


def test_holm_keeps_the_level_of_all_tests_together():
    """2,000 sets of 10 null p-values that depend on each other: any rejection has chance .05."""
    rng = np.random.default_rng(5)
    scores = (rng.normal(size=(2000, 1)) + rng.normal(size=(2000, 10))) / np.sqrt(2)
    rejected = [np.any(bounds.holm(p) <= 0.05) for p in stats.norm.sf(scores)]
    assert np.sum(rejected) <= stats.binom.isf(0.001, 2000, 0.05)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: bounds.balanced_accuracy_floor(0, 5), "n_forget"),
        (lambda: bounds.balanced_accuracy_floor(5, 5, alpha=1), "alpha"),
        (lambda: bounds.holm([]), "p_values"),
        (lambda: bounds.holm([0.1, 1.2]), "p_values"),
        (lambda: bounds.holm([0.1, np.nan]), "p_values"),
    ],
)
def test_bad_input_is_named(call, argument):
    with refused(argument):
        call()


def _scores(seed, size, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, size), rng.normal(0, 1, 4 * size)


def test_the_band_of_retrained_models_holds_both_and_widens_with_fewer_examples():
    reaches = []
    for size in (2, 20, 2000):
        first, second = _scores(0, size), _scores(1, size)
        low, high = bounds.retrained_auc_band(first, second)
        aucs = sorted(100 * roc.roc_auc(*scores) for scores in (first, second))
        assert 0 <= low <= aucs[0] <= aucs[1] <= high <= 100
        reaches.append(high - low)
    assert reaches == sorted(reaches, reverse=True)
    # 2,000 against 8,000 examples of unrelated models: 1.96 * sqrt(2) standard errors of one AUC.
    assert reaches[-1] < 8


def test_a_band_from_one_example_excludes_nothing_that_matters():
    low, high = bounds.retrained_auc_band(([1.0], [0.0, 2.0]), ([1.0], [0.0, 2.0]))
    assert (low, high) == (0.0, 100.0)


def test_the_band_follows_a_target_that_is_not_50():
    one = _scores(0, 500, shift=-3.0)
    near = (one[0] + 0.01 * _scores(1, 500)[0], one[1])
    _, high = bounds.retrained_auc_band(one, near)
    assert high < 10
