"""Fisher forgetting: closed forms, where the noise goes; parity is in `released`."""

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.fisher_forgetting import (
    FisherForgettingConfig,
    fisher_forgetting,
    fisher_information,
    noise_variance,
)

CLASSES = 3
LINEAR = from_functions(
    lambda key, x: jax.random.normal(key, (x.shape[1], CLASSES)),
    lambda w, x: x @ w,
    name="linear",
)


def examples(size, seed=0):
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)
    return Examples(inputs, jnp.asarray(rng.integers(CLASSES, size=size)))


def test_information_is_the_expected_one_in_closed_form():
    data = examples(40)
    weights = LINEAR.init(jax.random.key(0), data.inputs).params
    x = np.asarray(data.inputs)
    p = np.asarray(jax.nn.softmax(data.inputs @ weights))
    # The Fisher information of softmax regression: x^2 times the variance of each label.
    wanted = np.mean(x[:, :, None] ** 2 * (p * (1 - p))[:, None], axis=0)
    found = fisher_information(LINEAR, Variables(weights, {}), data, CLASSES)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    relabelled = data._replace(labels=0 * data.labels)
    again = fisher_information(LINEAR, Variables(weights, {}), relabelled, CLASSES)
    np.testing.assert_array_equal(found, again)


def test_variance_is_bounded_and_larger_in_the_last_layer():
    information = {
        "hidden": jnp.array([[0.1, 0.0, 1.0, 1.0], [0.3, 0.0, 1.0, 1.0]]),
        "bias": jnp.array([0.5, 0.0]),
        "last": jnp.array([[0.1, 0.0, 1.0]]),
    }
    variance = noise_variance(information, CLASSES, alpha=2.0)
    np.testing.assert_allclose(variance["hidden"][0], [2 * (10 + 10 / 3) / 2, 2000, 2, 2], 1e-5)
    np.testing.assert_array_equal(variance["hidden"][0], variance["hidden"][1])
    np.testing.assert_allclose(variance["bias"], [2 * 2 * 10, 2000 * 10], 1e-5)
    np.testing.assert_allclose(variance["last"], [[10 * 20, 10 * 200, 10 * 2]], 1e-5)


def test_noise_follows_the_key_and_its_scale():
    retain = examples(30)
    data = UnlearnData(examples(1, seed=1), retain, examples(2, seed=2))
    variables = LINEAR.init(jax.random.key(0), retain.inputs)

    def change(key, alpha):
        method = fisher_forgetting(LINEAR, spec_of(data, CLASSES), FisherForgettingConfig(alpha))
        unlearned, _ = unlearn(method, variables, data, key=jax.random.key(key))
        return np.asarray(unlearned.params - variables.params)

    one, other, louder = change(0, 1e-4), change(1, 1e-4), change(0, 1e-2)
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(louder, 10 * one, rtol=1e-3, atol=1e-5)
