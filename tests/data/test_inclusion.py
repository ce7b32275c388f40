"""Pairs and coins: what each network of a shadow pool is trained on, forgets and never sees."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ltu_jax.data import inclusion as coins
from ltu_jax.errors import InputError
from ltu_jax.types import Split


@st.composite
def deletions(draw):
    """Labels of a training set and the split of a random request."""
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=4, max_size=60)))
    forgotten = np.array(draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    seen = np.array(draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    nothing = np.array([], np.int64)
    forget, retain = np.flatnonzero(forgotten), np.flatnonzero(~forgotten)
    return labels, Split(forget, retain, np.flatnonzero(seen & ~forgotten), nothing, nothing)


def class_sizes(labels, rows):
    return np.bincount(labels[rows], minlength=4)


def paired(deletion, seed=0):
    labels, split = deletion
    possible = class_sizes(labels, split.retain) // 2
    assume(np.minimum(class_sizes(labels, split.forget), possible).any())
    return coins.pair(labels, split, seed=seed)


@settings(max_examples=50, deadline=None)
@given(deletions(), st.integers(0, 5))
def test_pairs_are_of_one_class_and_divide_the_training_set(deletion, seed):
    labels, split = deletion
    pairs = paired(deletion, seed)
    np.testing.assert_array_equal(labels[pairs.first], labels[pairs.second])
    np.testing.assert_array_equal(np.sort([*pairs.first, *pairs.alone]), split.forget)
    np.testing.assert_array_equal(np.sort([*pairs.second, *pairs.base]), split.retain)
    np.testing.assert_array_equal(pairs.accessible, np.setdiff1d(split.accessible, pairs.second))


@settings(max_examples=50, deadline=None)
@given(deletions())
def test_as_many_are_paired_as_half_of_a_class_allows_and_unseen_partners_come_first(deletion):
    labels, split = deletion
    pairs = paired(deletion)
    expected = np.minimum(class_sizes(labels, split.forget), class_sizes(labels, split.retain) // 2)
    np.testing.assert_array_equal(class_sizes(labels, pairs.first), expected)
    unseen = class_sizes(labels, np.setdiff1d(split.retain, split.accessible))
    taken = class_sizes(labels, np.intersect1d(pairs.second, split.accessible))
    np.testing.assert_array_equal(taken, np.maximum(expected - unseen, 0))


@settings(max_examples=50, deadline=None)
@given(deletions(), st.integers(1, 4))
def test_a_network_has_all_but_the_partners_of_what_it_forgets(deletion, couples):
    labels, _ = deletion
    pairs = paired(deletion)
    tossed = coins.toss(couples, len(pairs.first), seed=0)
    trained, forgotten = coins.trained_rows(pairs, tossed), coins.forgotten_rows(pairs, tossed)
    assert len(trained) == len(forgotten) == 2 * couples
    for coin, seen, gone in zip(tossed, trained, forgotten):
        partners = np.where(coin, pairs.second, pairs.first)
        np.testing.assert_array_equal(np.sort([*seen, *partners]), np.arange(len(labels)))
        assert np.isin(gone, seen).all()
        expected = [*np.where(coin, pairs.first, pairs.second), *pairs.alone]
        np.testing.assert_array_equal(np.sort(gone), np.sort(expected))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 5))
def test_the_two_of_a_couple_have_opposite_coins(couples, num_pairs, seed):
    tossed = coins.toss(couples, num_pairs, seed=seed)
    assert tossed.shape == (2 * couples, num_pairs)
    np.testing.assert_array_equal(tossed[::2], ~tossed[1::2])
    np.testing.assert_array_equal(tossed, coins.toss(couples, num_pairs, seed=seed))


def test_coins_are_fair_and_independent():
    tossed = coins.toss(1000, 20, seed=0)[::2] - 0.5
    # Four standard deviations of a mean of 20,000 coins, and of products of 1,000.
    assert abs(tossed.mean()) < 4 * 0.5 / np.sqrt(20_000)
    products = tossed.T @ tossed / len(tossed) - np.eye(20) / 4
    assert abs(products).max() < 4.5 * 0.25 / np.sqrt(1000)


def test_a_seed_draws_pairs_and_coins():
    labels = np.zeros(100, int)
    nothing = np.array([], np.int64)
    split = Split(np.arange(20), np.arange(20, 100), nothing, nothing, nothing)
    first, again, other = (coins.pair(labels, split, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.second, again.second)
    assert set(first.second) != set(other.second)
    assert not np.array_equal(coins.toss(9, 9, seed=0), coins.toss(9, 9, seed=1))


def test_a_class_forgotten_whole_is_refused_and_beside_others_goes_alone():
    labels = np.arange(40) % 2
    nothing = np.array([], np.int64)
    whole, rest = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    with pytest.raises(InputError, match=r"--kind shadow: no forget example .* original, retrain"):
        coins.pair(labels, Split(whole, rest, rest, nothing, nothing), seed=0)
    split = Split(np.sort([*whole, 1]), rest[1:], rest[1:], nothing, nothing)
    pairs = coins.pair(labels, split, seed=0)
    assert pairs.first.tolist() == [1]
    np.testing.assert_array_equal(pairs.alone, whole)
