"""Retraining: it is ordinary training, of everything, without the forget set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_linen
from ltu_jax.models.mlp import MLP
from ltu_jax.training.loop import unlearn
from ltu_jax.training.supervised import RECIPES, Recipe, train, train_steps
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.retrain_accessible import RetrainConfig, retrain_accessible

CLASSES = 3
RECIPE = Recipe(epochs=3, batch_size=8, warmup=0.2)
MODEL = from_linen(MLP(CLASSES, widths=(5,)), name="mlp")


def examples(size, seed):
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)
    return Examples(inputs, jnp.asarray(np.arange(size) % CLASSES, jnp.int32))


@pytest.fixture(scope="module")
def data():
    # NaN inputs: a result that used them would not be finite.
    unseen = examples(6, 1)._replace(inputs=jnp.full((6, 4), jnp.nan))
    return UnlearnData(unseen, examples(30, 0), unseen)


@pytest.fixture(scope="module")
def original(data):
    """A network whose biases have left zero, as training makes them do."""
    return jax.tree.map(lambda x: x + 1.0, MODEL.init(jax.random.key(0), data.retain.inputs))


def test_equals_supervised_training_with_the_same_keys(data, original):
    key = jax.random.key(1)
    method = retrain_accessible(MODEL, spec_of(data, CLASSES), RetrainConfig(RECIPE))
    retrained, history = unlearn(method, original, data, key=key)

    prepare_key, _ = jax.random.split(key)
    trained, wanted = train(MODEL, data.retain, RECIPE, key=prepare_key)
    np.testing.assert_allclose(history["loss"], wanted["loss"], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(retrained), jax.tree.leaves(trained)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_step_0_shares_no_value_with_the_original(data, original):
    method = retrain_accessible(MODEL, spec_of(data, CLASSES), RetrainConfig(RECIPE))
    start = method.finish(method.prepare(jax.random.key(2), original, data))
    for one, other in zip(jax.tree.leaves(start), jax.tree.leaves(original)):
        assert not np.any(np.asarray(one) == np.asarray(other))


def test_the_recipe_is_that_of_the_model_unless_given(data):
    steps = train_steps(30, RECIPES["mlp"])
    assert retrain_accessible(MODEL, spec_of(data, CLASSES)).num_steps == steps
    assert retrain_accessible(MODEL, spec_of(data, CLASSES), RetrainConfig(RECIPE)).num_steps == 9
