"""One-run audits: closed forms, calibration under exact unlearning, growth and power."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from ltu_jax.audit import epsilon, one_run
from tests.refusals import refused

ALPHA, DRAWS = 0.05, 500
MOST_EVIDENCE = stats.binom.isf(0.001, DRAWS, ALPHA)


def run(rng, m, r, shift):
    """Guesses on pairs whose in-scores are `shift` higher; returns how many of r are right."""
    bits = rng.random(m) < 0.5
    first, second = rng.normal(size=(2, m))
    guesses = one_run.guess_inclusion(first + shift * bits, second + shift * ~bits, r)
    assert np.sum(guesses != 0) == r
    return one_run.count_correct(guesses, bits)


def test_examples():
    result = doctest.testmod(one_run)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("r", [40, 300])
def test_exact_unlearning_gives_evidence_with_chance_alpha_at_most(r):
    """Scores without a leak: both audits, with and without delta, stay at alpha."""
    rng = np.random.default_rng(r)
    correct = [run(rng, 300, r, 0.0) for _ in range(DRAWS)]
    for delta in (0.0, 0.01):
        single = sum(one_run.one_run_p_value(300, r, v, delta=delta) <= ALPHA for v in correct)
        groups = sum(one_run.group_bound(v, r, alpha=ALPHA, delta=delta)[0] > 0 for v in correct)
        assert single <= MOST_EVIDENCE
        assert groups <= MOST_EVIDENCE


def test_p_value_is_the_chance_of_so_many_right_guesses():
    """Without delta and at epsilon 0 it is the binomial test, level by level."""
    for v in range(21):
        expected = stats.binomtest(v, 20, 0.5, alternative="greater").pvalue
        assert one_run.one_run_p_value(50, 20, v) == pytest.approx(expected)
    assert one_run.one_run_p_value(50, 20, 15, delta=1e-3) > one_run.one_run_p_value(50, 20, 15)
    assert one_run.one_run_p_value(50, 20, 15, delta=0.5) == 1


def test_p_value_by_its_definition():
    m, r, v, delta, q = 60, 30, 21, 1e-3, special.expit(0.4)
    tail = stats.binom.sf(v - 1, r, q)
    steps = [(stats.binom.sf(v - i - 1, r, q) - tail) / i for i in range(1, v + 1)]
    expected = tail + 2 * m * delta * max(steps)
    assert one_run.one_run_p_value(m, r, v, epsilon=0.4, delta=delta) == pytest.approx(expected)


def test_bound_is_wrong_with_chance_alpha_at_most():
    """Guesses right with chance e^eps / (1 + e^eps), independently: the worst case."""
    rng = np.random.default_rng(1)
    correct = rng.binomial(100, special.expit(0.8), size=DRAWS)
    bounds = {v: one_run.one_run_bound(100, 100, int(v)).epsilon for v in np.unique(correct)}
    wrong = sum(bounds[v] > 0.8 for v in correct)
    assert 0 < wrong <= MOST_EVIDENCE


def test_bounds_grow_with_the_number_of_guesses():
    share = 0.7
    for audit in (
        lambda r: one_run.one_run_bound(r, r, int(share * r)).epsilon,
        lambda r: one_run.fdp_epsilon(r, r, int(share * r), delta=1e-6),
        lambda r: one_run.group_bound(int(share * r), r).epsilon,
    ):
        values = [audit(r) for r in (20, 60, 200, 600)]
        assert np.all(np.diff(values) > 0)
    # The single candidate's bound goes to the epsilon whose guesses are right so often.
    assert one_run.one_run_bound(10**5, 10**5, 70_000).epsilon == pytest.approx(
        special.logit(share), abs=0.02
    )


@pytest.mark.parametrize("r", [3, 30, 3000])
def test_all_right_gives_what_is_certifiable(r):
    bound = one_run.one_run_bound(5000, r, r)
    expected = max(0.0, special.logit(ALPHA ** (1 / r)))
    assert bound.epsilon == bound.certifiable == pytest.approx(expected)
    group = one_run.group_bound(r, r)
    expected = max(0.0, np.log(ALPHA) + r * np.log(2))
    assert group.epsilon == group.certifiable == pytest.approx(expected)


@pytest.mark.parametrize("delta", [0.0, 1e-4])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_detectable_epsilon_is_found_with_that_power(power, delta):
    detectable = one_run.one_run_bound(400, 200, 100, power=power, delta=delta).detectable
    tail = stats.binom.sf(np.arange(201) - 1, 200, special.expit(detectable))
    is_evidence = [one_run.one_run_p_value(400, 200, v, delta=delta) <= ALPHA for v in range(201)]
    fewest = is_evidence.index(True)
    assert all(is_evidence[fewest:])
    assert tail[fewest] == pytest.approx(power, abs=1e-6)


def test_detectable_epsilon_of_a_group():
    """A group leak of e^eps at most raises evidence from its chance under the null to 80 %."""
    bounds = [one_run.group_bound(v, 100) for v in range(101)]
    fewest = next(v for v, bound in enumerate(bounds) if bound.epsilon > 0)
    null = stats.binom.sf(fewest - 1, 100, 0.5)
    assert null < ALPHA < stats.binom.sf(fewest - 2, 100, 0.5)
    assert bounds[0].detectable == pytest.approx(np.log(0.8 / null))
    assert one_run.group_bound(4, 4).detectable == np.inf


def test_guesses_see_a_leak():
    rng = np.random.default_rng(2)
    v = run(rng, 500, 200, 1.0)
    assert one_run.group_bound(v, 200).epsilon > 5
    assert 0.5 < one_run.one_run_bound(500, 200, v).epsilon < 4.2


def test_guesses_are_the_surest():
    first, second = np.array([0.0, 5.0, 1.0, np.inf]), np.array([1.0, 0.0, 1.0, np.inf])
    assert one_run.guess_inclusion(first, second, 1).tolist() == [0, 1, 0, 0]
    assert one_run.guess_inclusion(first, second, 2).tolist() == [-1, 1, 0, 0]
    assert one_run.guess_inclusion(first, second, 4).tolist() == [-1, 1, 1, 1]


SCORES = arrays(np.float64, st.integers(1, 20), elements=st.integers(-3, 3).map(float))


@given(SCORES, SCORES, SCORES, SCORES)
def test_swap_difference(forget, test, other_forget, other_test):
    """0 if the model ignores the roles; else symmetric in the runs and at most 1."""
    assert one_run.swap_difference(forget, test, test, forget) == 0
    value = one_run.swap_difference(forget, test, other_forget, other_test)
    assert 0 <= value <= 1
    assert one_run.swap_difference(other_forget, other_test, forget, test) == pytest.approx(value)
    moved = (scores**3 + 1 for scores in (forget, test, other_forget, other_test))
    assert one_run.swap_difference(*moved) == pytest.approx(value)


def test_swap_difference_of_a_leak():
    """Both runs rank what they forgot above the rest, though one half is easier."""
    easy, hard = np.linspace(1, 2, 50), np.linspace(0, 1, 50)
    assert one_run.swap_difference(easy + 5, hard, hard + 5, easy) == 1.0
    assert 0 < one_run.swap_difference(easy + 0.2, hard, hard + 0.2, easy) < 0.5


def test_bad_input_is_named():
    good = np.arange(4.0)
    with refused("scores_second"):
        one_run.guess_inclusion(good, good[:3], 2)
    with refused("r"):
        one_run.guess_inclusion(good, good, 5)
    with refused("scores_first"):
        one_run.guess_inclusion(np.array([np.nan]), np.array([1.0]), 1)
    with refused("inclusion"):
        one_run.count_correct(np.array([1, -1]), np.array([1, 0]))
    with refused("r"):
        one_run.one_run_p_value(20, 30, 10)
    with refused("v"):
        one_run.one_run_bound(20, 10, 11)
    with refused("epsilon"):
        one_run.one_run_p_value(20, 10, 5, epsilon=-1)
    with refused("delta"):
        one_run.fdp_epsilon(20, 10, 5, delta=0)
    with refused("delta"):
        one_run.group_bound(5, 10, delta=0.05)
    with refused("scores_test_b"):
        one_run.swap_difference(good, good, good, [])
    assert epsilon.Bound._fields == one_run.group_bound(5, 10)._fields
