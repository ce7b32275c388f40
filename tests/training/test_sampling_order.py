"""Shuffled orders are permutations, and all orders are equally likely."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.training.sampling_order import rows_at


@pytest.mark.slow
@settings(max_examples=40)
@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 300))
def test_every_row_has_one_position(seed, size):
    rows = rows_at(jax.random.key(seed), jnp.arange(size), size)
    np.testing.assert_array_equal(np.sort(rows), np.arange(size))


@pytest.mark.parametrize("size", [5, 1000, 2**31 - 1])
def test_parts_agree_with_the_whole_permutation(size):
    key, places = jax.random.key(3), jnp.array([[0, 4, 2], [1, 3, 3]])
    rows = rows_at(key, places, size)
    assert rows.shape == places.shape
    assert rows.dtype == places.dtype
    assert (rows >= 0).all()
    assert (rows < size).all()
    assert rows[1, 1] == rows[1, 2]
    np.testing.assert_array_equal(rows, jax.jit(rows_at, static_argnums=2)(key, places, size))
    np.testing.assert_array_equal(rows[0, 1], rows_at(key, jnp.array(4), size))


def p_value(rows, size):
    """Chi-squared: are all ordered choices of distinct rows `[draws, k]` as likely?"""
    cells = {one: 0 for one in itertools.permutations(range(size), rows.shape[1])}
    for one in map(tuple, rows.tolist()):
        cells[one] += 1
    return scipy.stats.chisquare(list(cells.values())).pvalue


@pytest.mark.parametrize(("size", "asked"), [(2, 2), (4, 4), (5, 3), (29, 2), (300, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_orders_are_equally_likely(size, asked, seed):
    keys = jax.random.split(jax.random.key(seed), 40_000)
    rows = jax.vmap(lambda key: rows_at(key, jnp.arange(size)[-asked:], size))(keys)
    assert 1e-3 < p_value(np.asarray(rows), size) < 1 - 1e-6


def test_too_few_rounds_are_detected(monkeypatch):
    monkeypatch.setattr("ltu_jax.training.sampling_order.ROUNDS", 4)
    keys = jax.random.split(jax.random.key(0), 40_000)
    rows = jax.vmap(lambda key: rows_at(key, jnp.arange(4), 4))(keys)
    assert p_value(np.asarray(rows), 4) < 1e-9
