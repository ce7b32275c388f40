"""A member of an ensemble equals the model that is trained or unlearned alone."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lib.provenance import ROOT
from ltu_jax import unlearners
from ltu_jax.errors import DivergedError, InvariantError
from ltu_jax.models import from_functions, in_bfloat16
from ltu_jax.training import ensembles, loop, supervised
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Invariants, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import spec_of
from tests import tiny

CLASSES = 3
RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.1)
KEYS = jax.random.split(jax.random.key(7), 3)


def init(key, inputs):
    kernel = 0.3 * jax.random.normal(key, (inputs.shape[-1], CLASSES))
    params = {"head": {"kernel": kernel, "bias": jnp.zeros(CLASSES)}}
    return Variables(params, {"passes": jnp.zeros(())})


def apply(variables, inputs, *, train=False, key=None):
    """A linear network under noise that counts its training passes."""
    head = variables.params["head"]
    logits = inputs @ head["kernel"] + head["bias"]
    if not train:
        return logits, variables.state
    noise = jax.random.uniform(key, logits.shape)
    return logits + noise, {"passes": variables.state["passes"] + 1}


NOISY = Model(init, apply, "noisy")


def init_cnn(key, inputs):
    kernels = {"conv": (3, 3, 1, 2), "head": (inputs[0].size // 2, CLASSES)}  # two channels
    return {name: 0.3 * jax.random.normal(key, shape) for name, shape in kernels.items()}


def apply_cnn(params, inputs):
    numbers = ("NHWC", "HWIO", "NHWC")
    hidden = jax.lax.conv_general_dilated(
        inputs, params["conv"], (2, 2), "SAME", dimension_numbers=numbers
    )
    return jax.nn.relu(hidden).reshape(len(inputs), -1) @ params["head"]


CNN = from_functions(init_cnn, apply_cnn, name="cnn")
BOTH = pytest.mark.parametrize("model", [NOISY, CNN], ids=lambda model: model.name)


def examples_for(model):
    """A table, or for a convolution small images of it."""
    examples = jax.tree.map(jnp.asarray, tiny.table().train)
    if model is CNN:
        columns = jnp.pad(examples.inputs, ((0, 0), (0, 2)))
        examples = examples._replace(inputs=columns[:, :, None, None] * columns[:, None, :, None])
    return examples


def rows_of(size, count=40):
    """Return different random rows for each member."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(120)[:count] for _ in range(size)])


def take(examples, rows):
    return jax.tree.map(lambda x: x[rows], examples)


def assert_members(pooled, alone, **tolerance):
    for i, expected in enumerate(alone):
        jax.tree.map(
            partial(np.testing.assert_allclose, **tolerance), ensembles.member(pooled, i), expected
        )


def assert_all_different(pooled):
    kernels = jax.tree.leaves(pooled.params)[-1]
    for i in range(len(kernels)):
        for j in range(i):
            assert not np.allclose(kernels[i], kernels[j], atol=1e-3)


@BOTH
def test_a_member_equals_the_model_trained_alone(model):
    examples, rows = examples_for(model), rows_of(3)
    pooled = ensembles.train_members(model, examples, rows, RECIPE, keys=KEYS)
    alone = [
        supervised.train(model, take(examples, own), RECIPE, key=key)[0]
        for own, key in zip(rows, KEYS)
    ]
    assert_members(pooled, alone, rtol=1e-5, atol=1e-5)
    assert_all_different(pooled)


def test_members_in_bfloat16_are_near_those_in_float32():
    examples, rows = examples_for(CNN), rows_of(3)
    exact, low = (
        ensembles.train_members(model, examples, rows, RECIPE, keys=KEYS)
        for model in (CNN, in_bfloat16(CNN))
    )
    for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(exact), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert 0 < float(jnp.linalg.norm(a - b)) < 0.05 * float(jnp.linalg.norm(b))


def test_only_convolutions_on_a_cpu_run_sequentially():
    on_cpu = jax.default_backend() == "cpu"
    assert ensembles.together(CNN, examples_for(CNN).inputs) == (not on_cpu)
    assert ensembles.together(NOISY, examples_for(NOISY).inputs)


def test_members_depend_on_key_and_rows():
    examples, rows = examples_for(NOISY), rows_of(2)
    pooled = ensembles.train_members(
        NOISY, examples, rows[[0, 0, 1]], RECIPE, keys=KEYS[jnp.array([0, 1, 0])]
    )
    assert_all_different(pooled)
    same = ensembles.train_members(
        NOISY, examples, rows[[0, 0, 1]], RECIPE, keys=KEYS[jnp.array([0, 0, 0])]
    )
    jax.tree.map(
        np.testing.assert_array_equal, ensembles.member(same, 0), ensembles.member(same, 1)
    )


@BOTH
def test_one_diverging_member_stops_the_ensemble(model):
    examples, rows = examples_for(model), rows_of(3)
    bad = np.setdiff1d(rows[1], np.concatenate([rows[0], rows[2]]))[0]
    broken = examples._replace(inputs=examples.inputs.at[bad].set(jnp.nan))
    ensembles.train_members(model, broken, rows[[0, 2, 0]], RECIPE, keys=KEYS)
    with pytest.raises(DivergedError, match="loss became nan at step"):
        ensembles.train_members(model, broken, rows, RECIPE, keys=KEYS)


@BOTH
def test_steps_of_all_members_are_counted(model):
    examples, received = examples_for(model), []
    ensembles.train_members(
        model, examples, rows_of(3), RECIPE, keys=KEYS, on_info=lambda t, info: received.append(t)
    )
    steps = supervised.train_steps(40, RECIPE)
    together = ensembles.together(model, examples.inputs)
    assert received == list(range(2, 3 * steps, 3) if together else range(3 * steps))


@BOTH
def test_predictions_equal_those_of_each_member(model):
    examples = examples_for(model)
    inputs = jnp.tile(examples.inputs, (5,) + (1,) * (examples.inputs.ndim - 1))  # over one batch
    inputs = inputs * jnp.linspace(0.5, 1.5, len(inputs)).reshape(-1, *[1] * (inputs.ndim - 1))
    variables = ensembles.stack([model.init(key, inputs[:1]) for key in KEYS])
    logits = ensembles.predict_members(model, variables, inputs)
    assert logits.shape == (3, 600, CLASSES)
    for i in range(3):
        expected, _ = model.apply(ensembles.member(variables, i), inputs)
        np.testing.assert_allclose(logits[i], expected, rtol=1e-5, atol=1e-5)
    assert ensembles.num_members(variables) == 3


METHODS = {
    "gradient_ascent": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
    "ssd": {"selection_weighting": 0.5},  # has no steps
}


def deletion(examples, forget, retain=range(40)):
    """What a method sees that forgets some of the rows from 40 on."""
    forget, retain, validation = (
        take(examples, np.array(rows)) for rows in (forget, retain, range(80, 120))
    )
    return UnlearnData(forget, retain, validation)


def build(name, model, data):
    method = unlearners.find(name)
    return method.build(model, spec_of(data, CLASSES), unlearners.configure(method, METHODS[name]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "together"), [("gradient_ascent", False), *((name, True) for name in METHODS)]
)
def test_a_member_equals_the_model_unlearned_alone(name, together, monkeypatch):
    monkeypatch.setattr(ensembles, "together", lambda model, inputs: together)
    examples = examples_for(NOISY)
    originals = ensembles.train_members(NOISY, examples, rows_of(3), RECIPE, keys=KEYS)
    data = [deletion(examples, range(40 + 10 * i, 50 + 10 * i)) for i in range(3)]
    method, received = build(name, NOISY, data[0]), []
    pooled = ensembles.unlearn_members(
        method, NOISY, originals, data, keys=KEYS, on_info=lambda t, info: received.append(t)
    )
    alone = [
        loop.unlearn(method, ensembles.member(originals, i), data[i], key=KEYS[i])[0]
        for i in range(3)
    ]
    assert_members(pooled, alone, rtol=1e-5, atol=1e-5)
    assert_all_different(pooled)
    assert received[-1:] == [3 * method.num_steps - 1][: method.num_steps]


def test_members_may_share_the_forget_set():
    one = NOISY.init(KEYS[0], examples_for(NOISY).inputs[:1])
    originals, keys = ensembles.stack([one, one]), KEYS[jnp.array([0, 0])]
    data = [deletion(examples_for(NOISY), rows) for rows in (range(40, 50), range(50, 60))]
    method = build("ssd", NOISY, data[0])
    for seen, alike in ((data[0], True), ([data[0], data[0]], True), (data, False)):
        pooled = ensembles.unlearn_members(method, NOISY, originals, seen, keys=keys)
        kernels = pooled.params["head"]["kernel"]
        assert np.array_equal(kernels[0], kernels[1]) == alike


NO_INVARIANTS = Invariants()


def push(invariants):
    """Return a method that adds each member's `state["push"]` to the bias."""

    def step(key, state, batch):
        bias = state.params["bias"] + state.state["push"]
        return state._replace(params={**state.params, "bias": bias}), {}

    return Unlearner(
        prepare=lambda key, variables, data: variables,
        sample=lambda key, t, state, data: (),
        step=step,
        finish=lambda state: state,
        num_steps=1,
        invariants=invariants,
    )


def pushed(pushes, invariants=NO_INVARIANTS):
    size = len(pushes)
    params = {"kernel": jnp.ones((size, 2, 3)), "bias": jnp.zeros((size, 3))}
    variables = Variables(params, {"push": jnp.asarray(pushes)})
    data = deletion(examples_for(NOISY), range(40, 50))
    return ensembles.unlearn_members(push(invariants), NOISY, variables, data, keys=KEYS[:size])


def test_invariants_are_checked_for_every_member():
    pushed([1.0, 2.0, 3.0])
    with pytest.raises(InvariantError, match="no parameter changed"):
        pushed([1.0, 2.0, 0.0])
    nothing = Invariants(changes=False)
    pushed([0.0, 0.0, 0.0], invariants=nothing)
    with pytest.raises(InvariantError, match="must not change"):
        pushed([0.0, 0.0, 1e-6], invariants=nothing)
    # Which weights may move, each member's own state says.
    own = Invariants(
        trainable_mask=lambda state: {"kernel": True, "bias": state.state["push"] > 1.5}
    )
    pushed([2.0, 3.0], invariants=own)
    with pytest.raises(InvariantError, match=r"3 frozen weights of parameter \['bias'\]"):
        pushed([2.0, 1.0], invariants=own)
    with pytest.raises(InvariantError, match="before the first step"):
        pushed([1.0, 2.0, 3.0], invariants=Invariants(reinitialised=True))


def test_a_member_that_is_not_finite_is_named():
    with pytest.raises(DivergedError, match=r"member 1: .* is not finite"):
        pushed([1.0, np.inf, 1.0])


def noisy_ensemble():
    """Return an ensemble of eight, its logits and its number of devices."""
    keys, examples = jax.random.split(jax.random.key(3), 8), examples_for(NOISY)
    trained = ensembles.train_members(NOISY, examples, rows_of(8), RECIPE, keys=keys)
    return {
        "devices": len(trained.params["head"]["kernel"].sharding.device_set),
        "logits": ensembles.predict_members(NOISY, trained, examples.inputs),
        **trained.params["head"],
        **trained.state,
    }


@pytest.mark.slow
def test_ensembles_do_not_depend_on_the_number_of_devices(tmp_path):
    code = (
        "import sys, numpy as np; from tests.training.test_ensembles import noisy_ensemble; "
        "np.savez(sys.argv[1], **noisy_ensemble())"
    )
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    path = tmp_path / "ensembles.npz"
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True, timeout=300)
    expected = noisy_ensemble()
    with np.load(path) as spread:
        assert int(spread["devices"]) == 8
        assert set(spread) == set(expected)
        for name in set(expected) - {"devices"}:
            np.testing.assert_allclose(spread[name], expected[name], rtol=1e-5, atol=1e-5)
