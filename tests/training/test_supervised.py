"""Supervised training: batches, SGD as in torch, predictions, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.supervised import (
    RECIPES,
    Recipe,
    epoch_rows,
    predict,
    recipe_for,
    train,
    train_steps,
)
from ltu_jax.types import Examples, Model, Variables
from tests.refusals import refused

KEY = jax.random.key(0)
CLASSES = 3


def init(key, inputs):
    kernel = 0.1 * jax.random.normal(key, (inputs.shape[-1], CLASSES))
    return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}


LINEAR = from_functions(init, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")


def separable(size=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % CLASSES
    inputs = 4.0 * np.eye(CLASSES)[labels] + 0.3 * rng.normal(size=(size, CLASSES))
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (13, 4), (5, 5)])
def test_an_epoch_visits_no_example_twice(size, batch_size):
    steps = size // batch_size
    walk = jax.jit(jax.vmap(lambda t: epoch_rows(KEY, t, size, batch_size)))
    rows = walk(jnp.arange(3 * steps))
    epochs = np.array(rows).reshape(3, steps * batch_size)
    for epoch in epochs:
        assert len(np.unique(epoch)) == steps * batch_size
    if size == steps * batch_size:
        np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(size), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3  # a new order in each


def test_the_optimizer_equals_torchs_sgd_with_a_cosine_schedule():
    recipe = Recipe(learning_rate=0.1, momentum=0.8, weight_decay=0.3)
    optimizer = recipe.optimizer(num_steps=3)
    params = np.array([1.0, -2.0], np.float32)
    gradients = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)

    wanted, buffer = params.astype(np.float64), 0.0
    for step, gradient in enumerate(gradients):
        buffer = 0.8 * buffer + (gradient + 0.3 * wanted)
        wanted = wanted - 0.1 * (1 + np.cos(np.pi * step / 3)) / 2 * buffer

    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, wanted, rtol=1e-6)


def test_the_learning_rate_increases_during_warmup():
    recipe = Recipe(learning_rate=0.4, momentum=0.0, weight_decay=0.0, warmup=0.5)
    optimizer = recipe.optimizer(num_steps=8)
    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(8):
        updates, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-updates)
    fall = 0.4 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.3, *fall], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 20])
def test_predictions_in_batches_equal_one_pass(size):
    traces = []

    def apply(variables, inputs, *, train=False, key=None):
        traces.append(train)
        return LINEAR.apply(variables, inputs)

    examples = separable(size)
    variables = LINEAR.init(KEY, examples.inputs)
    wanted, _ = LINEAR.apply(variables, examples.inputs)
    for inputs in (examples.inputs, np.array(examples.inputs)):
        traces.clear()
        logits = predict(Model(LINEAR.init, apply, "counting"), variables, inputs, batch_size=8)
        assert logits.shape == (size, CLASSES)
        np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
        assert traces in ([False], [])  # once, in evaluation mode; not again for a short last batch


def test_training_learns_a_separable_problem():
    recipe = Recipe(epochs=8, batch_size=20, learning_rate=0.5)
    received = []
    examples = separable()
    variables, history = train(
        LINEAR, examples, recipe, key=KEY, on_info=lambda t, info: received.append(t)
    )
    logits = predict(LINEAR, variables, examples.inputs)
    assert (logits.argmax(-1) == examples.labels).all()
    assert sorted(history) == ["accuracy", "loss"]
    assert len(history["loss"]) == len(received) == train_steps(60, recipe) == 24
    assert history["accuracy"][-3:].min() == 1.0
    assert history["loss"][-3:].max() < 0.1 * history["loss"][0]


def test_training_depends_on_the_key_only():
    recipe = Recipe(epochs=1, batch_size=20)
    kernels = [
        train(LINEAR, separable(), recipe, key=jax.random.key(seed))[0].params["kernel"]
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_batch_larger_than_the_data_is_the_data():
    recipe = Recipe(epochs=2, batch_size=100)
    _, history = train(LINEAR, separable(9), recipe, key=KEY)
    assert len(history["loss"]) == train_steps(9, recipe) == 2


def test_training_steps_have_different_keys_and_carry_the_state():
    def init_counting(key, inputs):
        return Variables(init(key, inputs), {"passes": jnp.zeros(()), "sum": jnp.zeros(())})

    def apply(variables, inputs, *, train=False, key=None):
        logits, _ = LINEAR.apply(Variables(variables.params, {}), inputs)
        state = variables.state
        if train:
            state = {"passes": state["passes"] + 1, "sum": state["sum"] + jax.random.normal(key)}
        return logits, state

    model = Model(init_counting, apply, "counting")
    variables, _ = train(model, separable(40), Recipe(epochs=2, batch_size=20), key=KEY)
    one_pass, _ = train(model, separable(20), Recipe(epochs=1, batch_size=20), key=KEY)
    assert variables.state["passes"] == 4
    # With one and the same key in every step, the sum would be four times that of one step.
    assert abs(variables.state["sum"] - 4 * one_pass.state["sum"]) > 1e-3


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch_size", -1), ("learning_rate", 0.0)]
)
def test_bad_recipes_are_refused_by_name(name, value):
    with refused(name, str(value)):
        Recipe(**{name: value})


def test_every_model_has_a_recipe():
    assert recipe_for("resnet18") is RECIPES["resnet18"]
    assert recipe_for("a network of the user's").warmup > 0
