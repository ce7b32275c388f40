"""Nothing: the original comes back, whatever the data."""

import jax
import numpy as np

from ltu_jax.training.loop import unlearn
from ltu_jax.types import Variables
from ltu_jax.unlearners.nothing import nothing


def test_the_original_comes_back_to_the_bit():
    original = Variables({"kernel": np.arange(6.0).reshape(2, 3)}, {"mean": np.ones(2)})
    result, history = unlearn(nothing(None, None), original, None, key=jax.random.key(0))
    assert jax.tree.structure(result) == jax.tree.structure(original)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(original)):
        np.testing.assert_array_equal(one, other)
    assert not history
