"""A model is tried on a few examples before any compute, and a given one is measured."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from tests import tiny


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


def masked(params, x):
    return jnp.where(jnp.array([True, True, False]), x @ params, -jnp.inf)


def root(params, x):
    return jnp.sqrt(x @ params)


def model(apply, init=lambda key, x: jax.random.normal(key, (6, 3))):
    return from_functions(init, apply, name="own")


def with_leaf(leaf):
    def init(key, x):
        return {"w": jax.random.normal(key, (6, 3)), "other": leaf}

    return model(lambda params, x: x @ params["w"], init)


@pytest.mark.parametrize(
    "wrong",
    [
        model(masked),
        model(root),
        with_leaf(jnp.arange(3)),
        with_leaf(jnp.ones(3, bool)),
        with_leaf(jnp.ones(3, complex)),
        model(lambda params, x: x[:, :3], lambda key, x: {}),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(wrong):
    with pytest.raises(InputError) as caught:
        tiny.plan(model=wrong)
    assert caught.value.argument == "model"


@pytest.mark.slow
def test_leaves_without_elements_and_without_value_are_no_obstacle(tmp_path):
    import ltu_jax

    for leaf in (jnp.zeros((0, 4)), None):
        own = with_leaf(leaf)
        result = ltu_jax.unlearn(
            tiny.table(), tiny.FORGOTTEN, model=own, method="finetune", reference="none", epochs=1,
            quiet=True, out=tmp_path / str(leaf is None),
        )  # fmt: skip
        assert jax.tree.structure(result.unlearned.params) == jax.tree.structure(
            own.init(jax.random.key(0), None).params
        )


def test_the_accuracy_of_a_given_model_is_measured():
    params = tiny.trained(Linear()).params
    plan = tiny.plan(model=Linear(), params=params)
    assert min(plan.accuracy) > 80
    assert not plan.warnings
    assert tiny.plan(model=Linear()).accuracy is None


def shuffled(params):
    return jax.tree.map(lambda leaf: leaf[..., jnp.array([1, 2, 0])], params)


def untrained(params):
    return Linear().init(jax.random.key(7), jnp.ones((1, 6)))["params"]


@pytest.mark.parametrize("change", [shuffled, untrained])
def test_a_given_model_whose_outputs_know_better_than_its_answers_is_refused(change):
    with pytest.raises(InputError) as caught:
        tiny.plan(model=Linear(), params=change(tiny.trained(Linear()).params))
    assert caught.value.argument == "params"


def test_an_honest_weak_model_passes():
    rng = np.random.default_rng(0)
    noise = tiny.table()._replace()
    noise = noise._replace(
        train=noise.train._replace(inputs=rng.normal(size=(120, 6)).astype(np.float32))
    )
    plan = tiny.plan(noise, model=Linear(), params=untrained(None))
    assert plan.accuracy.train < 60
    constant = jax.tree.map(jnp.zeros_like, untrained(None))
    assert tiny.plan(model=Linear(), params=constant).warnings
