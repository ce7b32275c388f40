"""EU-k: the last layers start from random weights, the others keep their bits."""

import jax
import numpy as np
import pytest

from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.eu_k import EUkConfig, eu_k
from tests.unlearners.last_layers import CLASSES, MODEL, changed, small

SGD = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
KEY = jax.random.key(2)


@pytest.mark.parametrize(("layers", "fresh"), [(1, {"fc"}), (2, {"conv2", "bn2", "fc"})])
def test_the_last_layers_restart_with_their_statistics(layers, fresh):
    data, variables = small()
    method = eu_k(MODEL, spec_of(data, CLASSES), EUkConfig(layers=layers, **SGD))
    start = method.finish(method.prepare(KEY, variables, data))
    assert changed(start, variables) == fresh
    # The new ones hold nothing of the original: another one leads to the same.
    other = jax.tree.map(lambda x: x + 1, variables)
    for part, other_part in zip(start, method.finish(method.prepare(KEY, other, data))):
        for name in fresh & set(part):
            jax.tree.map(np.testing.assert_array_equal, part[name], other_part[name])
    another = method.finish(method.prepare(jax.random.key(3), variables, data))
    assert not np.array_equal(start.params["fc"]["kernel"], another.params["fc"]["kernel"])


def test_forget_set_is_never_read():
    data, variables = small()
    method = eu_k(MODEL, spec_of(data, CLASSES), EUkConfig(layers=2, **SGD))
    result, history = unlearn(
        method, variables, data._replace(forget=Examples(None, None)), key=KEY
    )
    assert changed(result, variables) == {"conv2", "bn2", "fc"}
    assert history["loss"].shape == (3,)
