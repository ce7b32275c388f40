"""Matched canary pairs and inclusion bits: what shadow models train on, unlearn and never see."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ltu_jax.data.inclusion import (
    draw_inclusion,
    forgotten_rows,
    pair_canaries,
    trained_rows,
)
from ltu_jax.types import Split
from tests.refusals import refused


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
    return pair_canaries(labels, split, seed=seed)


@settings(max_examples=50)
@given(deletions(), st.integers(0, 5))
def test_pairs_are_of_one_class_and_divide_the_training_set(deletion, seed):
    labels, split = deletion
    pairs = paired(deletion, seed)
    np.testing.assert_array_equal(labels[pairs.first], labels[pairs.second])
    np.testing.assert_array_equal(np.sort([*pairs.first, *pairs.unpaired]), split.forget)
    np.testing.assert_array_equal(np.sort([*pairs.second, *pairs.base]), split.retain)
    np.testing.assert_array_equal(pairs.accessible, np.setdiff1d(split.accessible, pairs.second))


@settings(max_examples=50)
@given(deletions())
def test_as_many_are_paired_as_half_of_a_class_allows_and_unseen_partners_come_first(deletion):
    labels, split = deletion
    pairs = paired(deletion)
    expected = np.minimum(class_sizes(labels, split.forget), class_sizes(labels, split.retain) // 2)
    np.testing.assert_array_equal(class_sizes(labels, pairs.first), expected)
    unseen = class_sizes(labels, np.setdiff1d(split.retain, split.accessible))
    taken = class_sizes(labels, np.intersect1d(pairs.second, split.accessible))
    np.testing.assert_array_equal(taken, np.maximum(expected - unseen, 0))


@settings(max_examples=50)
@given(deletions(), st.integers(1, 4))
def test_a_model_is_trained_on_all_but_the_partners_of_what_it_unlearns(deletion, half):
    labels, _ = deletion
    pairs = paired(deletion)
    inclusion = draw_inclusion(2 * half, len(pairs.first), seed=0)
    trained, forgotten = trained_rows(pairs, inclusion), forgotten_rows(pairs, inclusion)
    assert len(trained) == len(forgotten) == 2 * half
    for bits, seen, gone in zip(inclusion, trained, forgotten):
        partners = np.where(bits, pairs.second, pairs.first)
        np.testing.assert_array_equal(np.sort([*seen, *partners]), np.arange(len(labels)))
        assert np.isin(gone, seen).all()
        expected = [*np.where(bits, pairs.first, pairs.second), *pairs.unpaired]
        np.testing.assert_array_equal(np.sort(gone), np.sort(expected))


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 5))
def test_paired_models_have_opposite_inclusion_bits(half, num_pairs, seed):
    inclusion = draw_inclusion(2 * half, num_pairs, seed=seed)
    assert inclusion.shape == (2 * half, num_pairs)
    np.testing.assert_array_equal(inclusion[::2], ~inclusion[1::2])
    np.testing.assert_array_equal(inclusion, draw_inclusion(2 * half, num_pairs, seed=seed))


def test_inclusion_bits_are_fair_and_independent():
    inclusion = draw_inclusion(2000, 20, seed=0)[::2] - 0.5
    # Four standard deviations of a mean of 20,000 bits, and of products of 1,000.
    assert abs(inclusion.mean()) < 4 * 0.5 / np.sqrt(20_000)
    products = inclusion.T @ inclusion / len(inclusion) - np.eye(20) / 4
    assert abs(products).max() < 4.5 * 0.25 / np.sqrt(1000)


def test_a_seed_draws_pairs_and_inclusion_bits():
    labels = np.zeros(100, int)
    nothing = np.array([], np.int64)
    split = Split(np.arange(20), np.arange(20, 100), nothing, nothing, nothing)
    first, again, other = (pair_canaries(labels, split, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.second, again.second)
    assert set(first.second) != set(other.second)
    assert not np.array_equal(draw_inclusion(18, 9, seed=0), draw_inclusion(18, 9, seed=1))


def test_a_whole_class_is_refused_and_stays_unpaired_next_to_others():
    labels = np.arange(40) % 2
    nothing = np.array([], np.int64)
    whole, rest = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    with refused("types", "shadow"):
        pair_canaries(labels, Split(whole, rest, rest, nothing, nothing), seed=0)
    split = Split(np.sort([*whole, 1]), rest[1:], rest[1:], nothing, nothing)
    pairs = pair_canaries(labels, split, seed=0)
    assert pairs.first.tolist() == [1]
    np.testing.assert_array_equal(pairs.unpaired, whole)
