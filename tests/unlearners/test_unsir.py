"""UNSIR: noise that the network gets wrong, the two phases, and a class that is forgotten."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from ltu_jax.models import from_functions, from_linen
from ltu_jax.models.mlp import MLP
from ltu_jax.training.loop import unlearn
from ltu_jax.training.supervised import Recipe, predict, train
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.unsir import UNSIRConfig, make_noise, mix, unsir

CLASSES = 3


def init(key, inputs):
    kernel = 0.1 * jax.random.normal(key, (inputs.shape[-1], CLASSES), inputs.dtype)
    return {"kernel": kernel, "bias": jnp.zeros(CLASSES, inputs.dtype)}


LINEAR = from_functions(init, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")
MLP_MODEL = from_linen(MLP(10, widths=(32,)), name="mlp")


def separable(labels, seed=0):
    rng = np.random.default_rng(seed)
    inputs = 4.0 * np.eye(CLASSES)[labels] + 0.3 * rng.normal(size=(len(labels), CLASSES))
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))


@pytest.fixture(scope="module")
def one_class():
    """Class 0 is to be forgotten and gone from the retain set; the original, and the data."""
    data = UnlearnData(
        separable(np.zeros(20, int)), separable(1 + np.arange(80) % 2), separable(np.arange(9) % 3)
    )
    return Variables({"kernel": jnp.eye(CLASSES), "bias": jnp.zeros(CLASSES)}, {}), data


@pytest.fixture(scope="module")
def digits():
    """600 digits, of which the threes are to be forgotten; the original, and the data."""
    inputs, labels = load_digits(return_X_y=True)
    train_set = Examples(jnp.asarray(inputs[:600] / 16, jnp.float32), jnp.asarray(labels[:600]))
    forget, retain = (
        jax.tree.map(lambda x, rows=rows: x[rows], train_set)
        for rows in (labels[:600] == 3, labels[:600] != 3)
    )
    recipe = Recipe(epochs=15, batch_size=50)
    original, _ = train(MLP_MODEL, train_set, recipe, key=jax.random.key(0))
    return original, UnlearnData(forget, retain, retain)


def accuracy(model, variables, examples):
    logits = predict(model, variables, examples.inputs)
    return float(jnp.mean(logits.argmax(-1) == examples.labels))


@pytest.mark.slow
def test_a_class_is_forgotten_and_the_others_are_not(digits):
    original, data = digits
    assert accuracy(MLP_MODEL, original, data.forget) > 0.9
    method = unsir(MLP_MODEL, spec_of(data, 10), UNSIRConfig(batch_size=32))
    unlearned, _ = unlearn(method, original, data, key=jax.random.key(1))
    assert accuracy(MLP_MODEL, unlearned, data.forget) < 0.1
    assert accuracy(MLP_MODEL, unlearned, data.retain) > 0.9


def test_noise_is_labelled_as_the_forget_set_and_wrong(one_class):
    original, data = one_class
    config = UNSIRConfig(noise_size=30)
    key = jax.random.key(2)
    at_first, noise = (
        make_noise(key, LINEAR, original, data, c)
        for c in (UNSIRConfig(noise_size=30, noise_steps=0), config)
    )
    losses = [
        float(
            optax.softmax_cross_entropy_with_integer_labels(
                predict(LINEAR, original, part.inputs), part.labels
            ).mean()
        )
        for part in (at_first, noise)
    ]
    assert losses[1] > losses[0] + 1
    np.testing.assert_array_equal(noise.labels, np.zeros(30))
    assert accuracy(LINEAR, original, noise) == 0.0

    mixed = data._replace(forget=separable(np.array([0, 0, 1])))
    labels = make_noise(key, LINEAR, original, mixed, config).labels
    np.testing.assert_array_equal(np.bincount(labels, minlength=CLASSES), [20, 10, 0])


@pytest.mark.usefixtures("x64")
def test_noise_takes_adams_steps_on_the_closed_form_gradient():
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(3.0, [1.0, 5.0, 0.1, 2.0], size=(50, 4)))
    data = UnlearnData(*[Examples(inputs, jnp.asarray(rng.integers(CLASSES, size=50)))] * 3)
    variables = LINEAR.init(jax.random.key(0), inputs)
    key = jax.random.key(1)
    start, one = (
        make_noise(key, LINEAR, variables, data, UNSIRConfig(noise_size=6, noise_steps=steps))
        for steps in (0, 1)
    )
    mean, std = np.mean(inputs, 0), np.std(inputs, 0)
    u = (np.asarray(start.inputs) - mean) / std
    kernel = np.asarray(variables.params["kernel"])
    p = jax.nn.softmax(start.inputs @ kernel + variables.params["bias"])
    ascent = (np.eye(CLASSES)[np.asarray(start.labels)] - p) @ kernel.T * std / 6
    gradient = ascent + 2 * 0.1 * u / 6
    wanted = u - 0.1 * np.asarray(gradient) / (np.abs(np.asarray(gradient)) + 1e-8)
    np.testing.assert_allclose((one.inputs - mean) / std, wanted, rtol=1e-6, atol=1e-9)


def test_the_penalty_pulls_noise_to_the_mean_image():
    """A network that says nothing leaves the penalty: noise shrinks; a dead pixel stays put."""
    images = np.random.default_rng(0).integers(0, 256, size=(40, 2, 2, 3)).astype(np.uint8)
    images[..., 1] = 51
    data = UnlearnData(*[Examples(jnp.asarray(images), jnp.zeros(40, jnp.int32))] * 3)
    silent = from_functions(None, lambda p, x: jnp.zeros((len(x), CLASSES)), name="silent")
    config = UNSIRConfig(noise_size=8, noise_steps=200)
    noise = make_noise(jax.random.key(0), silent, Variables({}, {}), data, config)
    mean = (images / 255).mean((0, 1, 2))
    np.testing.assert_allclose(noise.inputs, np.broadcast_to(mean, (8, 2, 2, 3)), atol=0.02)
    np.testing.assert_allclose(noise.inputs[..., 1], 0.2, atol=1e-6)


def test_phases_see_noise_and_then_retain_examples(one_class):
    original, data = one_class
    config = UNSIRConfig(
        batch_size=10, noise_size=7, noise_share=0.2, noise_steps=0, repair_epochs=2
    )
    method = unsir(LINEAR, spec_of(data, CLASSES), config)
    assert method.num_steps == 10 + 16  # 80 retain examples, and 20 of noise in the first pass
    state = method.prepare(jax.random.key(0), original, data)
    sample = jax.jit(method.sample)
    batches = [sample(jax.random.key(0), t, state, data) for t in range(method.num_steps)]
    is_noise = [np.array(batch.labels) == 0 for batch in batches]  # else class 1 or 2
    assert sum(map(sum, is_noise[:10])) == 20
    assert not np.any(is_noise[10:])
    seen = np.concatenate([batch.inputs for batch in batches[10:18]])
    order = [np.lexsort(x.T) for x in (seen, np.asarray(data.retain.inputs))]
    np.testing.assert_array_equal(seen[order[0]], np.asarray(data.retain.inputs)[order[1]])


def test_repair_starts_with_a_new_adam_at_its_own_rate(one_class):
    original, data = one_class
    config = UNSIRConfig(
        batch_size=20, noise_steps=0, impair_learning_rate=0.3, repair_learning_rate=0.05
    )
    method = unsir(LINEAR, spec_of(data, CLASSES), config)
    key = jax.random.key(0)
    state = method.prepare(key, original, data)
    (sample, step), sizes = map(jax.jit, (method.sample, method.step)), []
    for t in range(9):  # the impair pass takes 7 steps
        before = state.variables.params
        state, _ = step(key, state, sample(key, t, state, data))
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before, state.variables.params)
        sizes.append(float(max(jax.tree.leaves(moved))))
    # The first step of Adam is the learning rate, whatever the gradient.
    np.testing.assert_allclose([sizes[0], sizes[7]], [0.3, 0.05], rtol=1e-3)
    assert sizes[8] <= 0.06


def test_rows_beyond_the_retain_set_repeat_the_noise():
    retain = Examples(jnp.full((4, 2), 255, jnp.uint8), jnp.zeros(4, jnp.int32))
    noise = Examples(jnp.arange(6.0).reshape(3, 2), jnp.arange(1, 4))
    mixed = mix(retain, noise, jnp.array([0, 3, 4, 6, 7, 12]))
    np.testing.assert_array_equal(mixed.labels, [0, 0, 1, 3, 1, 3])
    np.testing.assert_allclose(
        mixed.inputs, [[1, 1], [1, 1], [0, 1], [4, 5], [0, 1], [4, 5]], rtol=1e-6
    )
