"""Epsilon lower bounds: closed forms, calibration on equal samples, growth and power on unequal."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import spatial, special, stats

from ltu_jax.audit import epsilon, roc
from tests.refusals import refused

ALPHA, DRAWS = 0.05, 500
# As many of the draws have a chance of 1 in 1,000 at most where each has the chance alpha.
MOST_EVIDENCE = stats.binom.isf(0.001, DRAWS, ALPHA)

SCORES = arrays(np.float64, st.integers(2, 30), elements=st.integers(-5, 5).map(float))


def response(rng, n, true_epsilon):
    """Scores of randomised response: 1 or 0, as far apart as the epsilon allows."""
    q = special.expit(true_epsilon)
    return (rng.random(n) < q).astype(float), (rng.random(n) < 1 - q).astype(float)


def test_examples():
    result = doctest.testmod(epsilon)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(("side", "tail"), [("lower", stats.binom.sf), ("upper", stats.binom.cdf)])
def test_clopper_pearson_is_where_the_tail_is_alpha(side, tail):
    counts = np.arange(1, 30)
    limits = epsilon.clopper_pearson(counts, 30, 0.03, side)
    at = counts - 1 if side == "lower" else counts
    np.testing.assert_allclose(tail(at, 30, limits), 0.03, rtol=1e-9)
    ends = epsilon.clopper_pearson(np.array([0, 30]), 30, 0.03, side)
    bound = 0.03 ** (1 / 30)
    np.testing.assert_allclose(ends, [0, bound] if side == "lower" else [1 - bound, 1])


@pytest.mark.parametrize(("n", "expected"), [(32, 2.1), (64, 2.8), (512, 4.9)])
def test_certifiable_is_what_perfect_separation_gives(n, expected):
    certifiable = epsilon.certifiable_epsilon(n, n)
    assert certifiable == pytest.approx(expected, abs=0.05)
    closed = 0.025 ** (1 / n)
    assert certifiable == pytest.approx(np.log(closed / (1 - closed)))
    bound = epsilon.epsilon_lower_bound(np.ones(n), np.zeros(n), rule="threshold", threshold=0.5)
    assert bound.epsilon == bound.certifiable == certifiable


@pytest.mark.parametrize("rule", ["split", "bonferroni"])
@pytest.mark.parametrize("n", [40, 400])
def test_separated_samples_give_what_is_certifiable(rule, n):
    rng = np.random.default_rng(n)
    bound = epsilon.epsilon_lower_bound(rng.random(n) + 2, rng.random(n), rule=rule)
    assert bound.epsilon <= bound.certifiable + 1e-12
    # On one half the lowest positive score chooses; the other half may have a few below.
    assert bound.epsilon > (0.7 if rule == "split" else 0.999999) * bound.certifiable


@pytest.mark.parametrize("rule", ["split", "bonferroni", "threshold"])
@pytest.mark.parametrize("sizes", [(30, 30), (300, 200)])
@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_equal_samples_give_evidence_with_chance_alpha_at_most(rule, sizes, delta):
    rng = np.random.default_rng([20, *sizes])
    options = {"threshold": 0.0} if rule == "threshold" else {}
    evidence = 0
    for _ in range(DRAWS):
        positive, negative = rng.normal(size=sizes[0]), rng.normal(size=sizes[1])
        bound = epsilon.epsilon_lower_bound(
            positive, negative, alpha=ALPHA, delta=delta, rule=rule, **options
        )
        evidence += bound.epsilon > 0
    assert evidence <= MOST_EVIDENCE


def test_noise_is_no_evidence_of_gaussian_leakage():
    """|mu| in place of mu would be above 0 in every one of these draws."""
    rng = np.random.default_rng(21)
    evidence = sum(epsilon.gdp_mu_lower_bound(*rng.normal(size=(2, 100))) > 0 for _ in range(DRAWS))
    assert evidence <= MOST_EVIDENCE


@pytest.mark.parametrize("rule", ["split", "bonferroni"])
def test_bound_is_above_the_true_epsilon_with_chance_alpha_at_most(rule):
    """Randomised response leaks exactly its epsilon, so a bound above it is wrong."""
    rng = np.random.default_rng(22)
    wrong = 0
    for _ in range(DRAWS):
        bound = epsilon.epsilon_lower_bound(*response(rng, 150, 1.0), rule=rule, alpha=0.2)
        wrong += bound.epsilon > 1.0
    assert 0 < wrong <= stats.binom.isf(0.001, DRAWS, 0.2)


def test_bound_grows_with_the_sample_towards_the_true_epsilon():
    rng = np.random.default_rng(23)
    means = [
        np.mean(
            [epsilon.epsilon_lower_bound(*response(rng, n, 1.5)).epsilon for _ in range(50)],
        )
        for n in (20, 100, 500, 5000)
    ]
    assert np.all(np.diff(means) > 0.05)
    assert 1.2 < means[-1] < 1.5


def test_gaussian_form_grows_towards_the_true_mu():
    rng = np.random.default_rng(24)
    means = [
        np.mean(
            [
                epsilon.gdp_mu_lower_bound(rng.normal(1, 1, n), rng.normal(0, 1, n))
                for _ in range(20)
            ]
        )
        for n in (50, 500, 5000)
    ]
    assert np.all(np.diff(means) > 0.1)
    assert 0.8 < means[-1] < 1


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_detectable_epsilon_is_found_with_that_power(power):
    n = 60
    rng = np.random.default_rng(25)
    detectable = epsilon.detectable_epsilon(n, n, power=power)
    found = 0
    for _ in range(2000):
        positive, negative = response(rng, n, detectable)
        bound = epsilon.epsilon_lower_bound(positive, negative, rule="threshold", threshold=0.5)
        found += bound.epsilon > 0
    # Four standard deviations.
    assert found / 2000 == pytest.approx(power, abs=4 * np.sqrt(power * (1 - power) / 2000))


def test_detectable_and_certifiable_improve_with_size():
    sizes = (5, 20, 100, 1000)
    detectable = [epsilon.detectable_epsilon(n, 2 * n) for n in sizes]
    certifiable = [epsilon.certifiable_epsilon(n, 2 * n) for n in sizes]
    assert np.all(np.diff(detectable) < 0)
    assert np.all(np.diff(certifiable) > 0)
    assert epsilon.detectable_epsilon(2, 2) == np.inf
    assert epsilon.certifiable_epsilon(2, 2) == 0.0


def test_mirror_and_delta():
    """High scores of a few negatives: only the mirrored form sees it. Delta takes off the rest."""
    positive, negative = np.ones(200), np.repeat([0.0, 1.0], [60, 140])
    at = {"rule": "threshold", "threshold": 0.5}
    plain, direct, loose = (
        epsilon.epsilon_lower_bound(positive, negative, **at, **options).epsilon
        for options in ({}, {"mirror": False}, {"delta": 0.1})
    )
    fnr_high = 1 - 0.025 ** (1 / 200)
    tnr_low = stats.beta.ppf(0.025, 60, 141)
    assert plain == pytest.approx(np.log(tnr_low / fnr_high))
    assert loose == pytest.approx(np.log((tnr_low - 0.1) / fnr_high))
    assert 0 < direct < loose


@given(SCORES, SCORES)
def test_hull_is_the_convex_hull_of_the_roc_curve(positive, negative):
    fp, tp = roc.roc_hull(positive, negative)
    assert (fp[0], tp[0], fp[-1], tp[-1]) == (0, 0, len(negative), len(positive))
    # Strictly to the right at each corner.
    turn = np.diff(fp)[:-1] * np.diff(tp)[1:] - np.diff(fp)[1:] * np.diff(tp)[:-1]
    assert np.all(turn < 0)
    points = [(np.sum(negative >= t), np.sum(positive >= t)) for t in np.append(positive, negative)]
    corners = np.column_stack([fp, tp])
    below = np.append(corners, [[len(negative), 0]], axis=0)
    hull = spatial.ConvexHull(below)
    outside = np.asarray(points) @ hull.equations[:, :2].T + hull.equations[:, 2]
    assert np.max(outside) < 1e-9


@given(SCORES, SCORES)
def test_monotone_maps_change_nothing(positive, negative):
    plain = epsilon.epsilon_lower_bound(positive, negative)
    assert epsilon.epsilon_lower_bound(np.exp(positive), np.exp(negative)) == plain


@given(st.floats(0.01, 5), st.floats(1e-9, 0.3))
def test_gdp_conversions_are_inverse(mu, delta):
    value = epsilon.gdp_epsilon(mu, delta)
    exact = stats.norm.cdf(-value / mu + mu / 2) - np.exp(value) * stats.norm.cdf(
        -value / mu - mu / 2
    )
    if value == 0:
        assert exact <= delta
    else:
        assert exact == pytest.approx(delta, rel=1e-6)
        assert epsilon.gdp_mu(value, delta) == pytest.approx(mu, rel=1e-6)


def test_last_true():
    assert epsilon.last_true(lambda x: x < 0) == 0
    assert epsilon.last_true(lambda x: x <= 37.5) == pytest.approx(37.5, rel=1e-12)
    assert epsilon.last_true(lambda x: True, most=10) == np.inf


GOOD = np.arange(5.0)


@pytest.mark.parametrize(
    ("positive", "negative", "options", "argument"),
    [
        ([], GOOD, {}, "positive"),
        (GOOD, np.zeros((2, 2)), {}, "negative"),
        (GOOD, [1.0, np.nan], {}, "negative"),
        ([1.0], GOOD, {}, "positive"),
        (GOOD, GOOD, {"alpha": 0}, "alpha"),
        (GOOD, GOOD, {"delta": 1}, "delta"),
        (GOOD, GOOD, {"power": 1.5}, "power"),
        (GOOD, GOOD, {"rule": "best"}, "rule"),
        (GOOD, GOOD, {"threshold": 1.0}, "threshold"),
        (GOOD, GOOD, {"rule": "threshold"}, "threshold"),
    ],
)
def test_bad_input_is_named(positive, negative, options, argument):
    with refused(argument):
        epsilon.epsilon_lower_bound(positive, negative, **options)


def test_bad_numbers_are_named():
    with refused("successes"):
        epsilon.clopper_pearson(4, 3, 0.05, "lower")
    with refused("side"):
        epsilon.clopper_pearson(1, 3, 0.05, "both")
    with refused("n_negative"):
        epsilon.certifiable_epsilon(3, 0)
    with refused("mu"):
        epsilon.gdp_epsilon(-1, 0.1)
    with refused("delta"):
        epsilon.gdp_mu(1, 0)
    with refused("epsilon"):
        epsilon.gdp_mu(np.inf, 0.1)
