"""The challenge's epsilons and forget score: what they are for known confidences and for none."""

import doctest
from itertools import combinations_with_replacement

import numpy as np
import pytest

from ltu_jax.audit.reproductions import challenge
from tests.refusals import refused

DELTA = challenge.DELTA


def test_examples():
    result = doctest.testmod(challenge)
    assert result.attempted
    assert not result.failed


def test_epsilon_is_that_of_the_best_attack():
    """Scores further apart than the grid: all thresholds and intervals there are, one by one."""
    retrained = np.linspace(0, 1, 10)
    unlearned = np.append(retrained[:7] + 0.05, [1.5, 1.7, 1.9])
    edges = np.unique(np.append(retrained, unlearned))
    attacks = [(unlearned >= edge, retrained >= edge) for edge in edges]
    for left, right in combinations_with_replacement(edges, 2):
        inside = [(left <= side) & (side <= right) for side in (retrained, unlearned)]
        attacks.append(inside)
    best = 0.0
    for hits, false_hits in attacks:
        fpr, fnr = np.mean(false_hits), 1 - np.mean(hits)
        if fpr > 0 and fnr > 0:
            for left_over, other in ((fpr, fnr), (fnr, fpr)):
                best = max(best, np.log(max(1 - DELTA - left_over, 1e-9) / other))
    (value,) = challenge.epsilons(unlearned[:, None], retrained[:, None])
    assert value == pytest.approx(best)
    assert value > 1


def test_epsilon_of_an_interval():
    """Equal medians and unequal widths: no threshold sees much, an interval nearly all."""
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(0, 0.1, (200, 1)), rng.normal(0, 5, (200, 1))
    assert challenge.epsilons(narrow, wide)[0] > 2.5
    assert challenge.epsilons(wide, narrow)[0] == challenge.epsilons(narrow, wide)[0]


def test_separated_and_peaky_examples_have_the_cap():
    rng = np.random.default_rng(1)
    retrained = rng.normal(size=(30, 3))
    unlearned = retrained + np.array([0.0, 50.0, 0.0])
    unlearned[:, 2] = 1e-3 * rng.normal(size=30)
    np.testing.assert_array_equal(
        challenge.epsilons(unlearned, retrained) == challenge.EPSILON_CAP, [False, True, True]
    )


def test_equal_constants_have_no_epsilon():
    constant = np.ones((5, 1))
    assert challenge.epsilons(constant, constant) == 0
    assert challenge.epsilons(constant, constant + 1) == challenge.EPSILON_CAP


def test_points_halve_with_each_bucket():
    """With 48 models ln(47) = 3.85, so that there are 8 buckets up to 4."""
    epsilon = np.arange(9) / 2
    expected = [1 / 2**i for i in range(8)] + [0]
    assert challenge.points(epsilon, 48).tolist() == expected
    assert challenge.points(epsilon + 0.49, 48).tolist() == expected


def test_forget_score_falls_with_a_leak():
    rng = np.random.default_rng(2)
    unlearned, retrained = rng.normal(size=(2, 40, 20))
    scores = [challenge.forget_score(unlearned + shift, retrained) for shift in (0, 1, 3, 50)]
    assert np.all(np.diff(scores) < 0)
    assert scores[-1] == 0


def test_bad_input_is_named():
    good = np.zeros((3, 2))
    with refused("unlearned"):
        challenge.epsilons(np.zeros(3), good)
    with refused("retrained"):
        challenge.forget_score(good, np.zeros((4, 2)))
    with refused("retrained"):
        challenge.epsilons(good, good + np.nan)
    with refused("delta"):
        challenge.epsilons(good, good, delta=2)
