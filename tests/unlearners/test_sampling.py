"""Batches from shuffled passes over sets of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.types import Examples
from ltu_jax.unlearners.sampling import batches_per_pass, concatenate, shuffled_rows, take_joint


@pytest.mark.slow
@given(
    num_examples=st.integers(1, 12), batch_size=st.integers(1, 30), seed=st.integers(0, 2**31 - 1)
)
@settings(max_examples=15)
def test_every_example_comes_once_before_any_comes_again(num_examples, batch_size, seed):
    key = jax.random.key(seed)
    count = 2 * batches_per_pass(num_examples, batch_size) + 1
    batches = jax.vmap(lambda i: shuffled_rows(key, i, num_examples, batch_size))
    rows = jax.jit(batches)(jnp.arange(count))
    assert rows.shape == (count, batch_size)
    stream = np.ravel(rows)
    for start in range(0, len(stream) - num_examples + 1, num_examples):
        assert sorted(stream[start : start + num_examples]) == list(range(num_examples))


def test_passes_differ_and_depend_on_the_key_alone():
    first, second = (shuffled_rows(jax.random.key(0), jnp.asarray(i), 50, 50) for i in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, shuffled_rows(jax.random.key(0), jnp.asarray(0), 50, 50))
    assert not np.array_equal(first, shuffled_rows(jax.random.key(1), jnp.asarray(0), 50, 50))


def test_joint_rows_equal_rows_of_the_concatenated_sets():
    one = Examples(jnp.arange(6.0).reshape(3, 2), jnp.arange(3))
    other = Examples(-jnp.arange(10.0).reshape(5, 2), -jnp.arange(5))
    rows = jnp.array([0, 7, 2, 3, 3, 5])
    whole = concatenate(one, other)
    for part, wanted in zip(take_joint(one, other, rows), whole):
        np.testing.assert_array_equal(part, wanted[rows])
