"""Other tools' epsilons: closed forms, and that they do not pay for choosing a threshold."""

import doctest
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from ltu_jax.audit.reproductions import ratio_bounds
from tests.refusals import refused

METHODS = get_args(ratio_bounds.Method)


def test_examples():
    result = doctest.testmod(ratio_bounds)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("method", METHODS)
def test_ratio_is_found_in_large_samples(method):
    """All limits agree and lie just below the true ratio of 4."""
    bound = ratio_bounds.ratio_bound(400_000, 100_000, 10**6, 10**6, method=method)
    assert 3.95 < bound < 4


@pytest.mark.parametrize("method", METHODS)
def test_limit_fails_about_as_often_as_alpha(method):
    """At one threshold fixed beforehand; six standard deviations of 20,000 draws are 0.9 points."""
    rng = np.random.default_rng(0)
    tp, fp = rng.binomial(300, 0.6, 20_000), rng.binomial(300, 0.2, 20_000)
    bound = ratio_bounds.ratio_bound(tp, fp, 300, 300, method=method)
    misses = np.mean(bound > 3)
    assert misses < 0.059
    assert misses > (0.001 if method == "clopper-pearson" else 0.035)


@pytest.mark.parametrize("method", METHODS)
def test_extreme_counts(method):
    tp, fp = np.array([0, 0, 10, 10, 10]), np.array([0, 5, 0, 10, 5])
    bound = ratio_bounds.ratio_bound(tp, fp, 10, 10, method=method)
    assert np.isfinite(bound).all()
    assert bound[0] == 0
    assert bound[1] < 0.5
    assert 1 < bound[2] < 25
    assert bound[3] < 1
    assert np.all(ratio_bounds.ratio_bound(tp, fp, 10, 10, method=method, alpha=1e-6) < 25)


def test_clopper_pearson_by_its_definition():
    bound = ratio_bounds.ratio_bound(30, 4, 50, 60, method="clopper-pearson", alpha=0.1)
    expected = stats.binomtest(30, 50).proportion_ci(0.9).low
    expected /= stats.binomtest(4, 60).proportion_ci(0.9).high
    assert bound == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS[:-1])
def test_large_sample_limits_find_leaks_in_noise(method):
    """Why they are not the library's own: most pairs of equal samples have a bound above 0."""
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(100, 2, 60))
    found = [ratio_bounds.ratio_epsilons(*pair, method=method)[0] > 0 for pair in samples]
    assert np.mean(found) > 0.5


def test_flipping_takes_low_scores_for_in():
    low, high = np.linspace(0, 1, 80), np.linspace(0.5, 1.5, 80)
    best, plain = (
        ratio_bounds.ratio_epsilons(low, high, method="katz-log", flipped=flipped)[0]
        for flipped in (True, False)
    )
    assert best == ratio_bounds.ratio_epsilons(high, low, method="katz-log")[0]
    assert plain <= 0 < best


def test_raw_epsilon():
    """TPR .5 at FPR .1 with 2 of 20 false positives; nothing where so few are too few."""
    positive, negative = np.repeat([1.0, 0.0], [10, 10]), np.repeat([1.0, 0.0], [2, 18])
    at = ratio_bounds.raw_epsilon
    assert at(positive, negative, min_count=2, mirror=False) == pytest.approx(np.log(5))
    assert at(positive, negative, min_count=2, delta=0.2, mirror=False) == pytest.approx(np.log(3))
    assert at(positive, negative, min_count=2, delta=0.9) == 0
    assert at(positive, negative, min_count=20) == 0
    assert at(negative, positive, min_count=2) == 0
    separated = np.arange(20) + 100.0
    assert at(separated, np.arange(20.0), min_count=1) == pytest.approx(np.log(20))


def test_bad_input_is_named():
    good = np.arange(3.0)
    with refused("method"):
        ratio_bounds.ratio_epsilons(good, good, method="wald")
    with refused("fp"):
        ratio_bounds.ratio_bound(1, 4, 3, 3, method="bailey")
    with refused("alpha"):
        ratio_bounds.ratio_bound(1, 1, 3, 3, method="bailey", alpha=0.5)
    with refused("min_count"):
        ratio_bounds.raw_epsilon(good, good, min_count=0)
