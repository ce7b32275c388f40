"""Linen modules, NNX modules and functions become pure functions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltu_jax.models import count_params, from_functions, from_linen, from_nnx, with_preprocessing
from ltu_jax.models.preprocessing import normalise, pad_crop_flip
from ltu_jax.types import Variables
from tests.models.pairs import linen_and_nnx, to_nnx
from tests.refusals import refused

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), [4, 6, 6, 1])
PAIR = linen_and_nnx()
VARIABLES = PAIR[0].init(KEY, IMAGES)
PAIR_WITH_DROPOUT = linen_and_nnx(dropout_rate=0.5)
both_kinds = pytest.mark.parametrize("model", PAIR_WITH_DROPOUT, ids=["linen", "nnx"])


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected
    )


def assert_trees_equal(actual, expected):
    assert_trees_close(actual, expected, rtol=0, atol=0)


def loss(model, params, state, train):
    logits, _ = model.apply(Variables(params, state), IMAGES, train=train, key=KEY)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])


@pytest.mark.parametrize("train", [False, True])
def test_linen_and_nnx_agree_on_copied_weights(train):
    linen, in_nnx = PAIR
    trained = linen.apply(VARIABLES, IMAGES, train=True, key=KEY)[1]  # statistics off 0 and 1
    variables = VARIABLES._replace(state=trained)
    logits, state = linen.apply(variables, IMAGES, train=train, key=KEY)
    nnx_logits, nnx_state = in_nnx.apply(to_nnx(variables), IMAGES, train=train, key=KEY)
    np.testing.assert_allclose(nnx_logits, logits, rtol=1e-5, atol=1e-6)
    assert_trees_close(nnx_state, state["batch_stats"])


@pytest.mark.parametrize("train", [False, True])
def test_linen_and_nnx_agree_through_a_grad_of_a_grad(train):
    def after_inner_step(model, params, state):
        inner = jax.grad(loss, argnums=1)(model, params, state, train)
        stepped = jax.tree.map(lambda p, g: p - 0.1 * g, params, inner)
        return loss(model, stepped, state, train)

    linen, in_nnx = PAIR
    meta_gradient = jax.jit(jax.grad(after_inner_step, argnums=1), static_argnums=0)
    expected = meta_gradient(linen, VARIABLES.params, VARIABLES.state)
    actual = meta_gradient(in_nnx, VARIABLES.params, VARIABLES.state["batch_stats"])
    assert_trees_close(actual, expected, atol=1e-5)
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(actual)) > 1e-3


def test_nnx_forward_over_reverse_is_reverse_over_reverse():
    def gradient(params):
        return jax.grad(loss, argnums=1)(PAIR[1], params, VARIABLES.state["batch_stats"], True)

    params = VARIABLES.params
    direction = jax.tree.map(jnp.cos, params)

    @jax.jit
    def both():
        def slope(params):
            products = jax.tree.map(jnp.vdot, gradient(params), direction)
            return sum(jax.tree.leaves(products))

        return jax.jvp(gradient, (params,), (direction,))[1], jax.grad(slope)(params)

    forward, reverse = both()
    assert_trees_close(forward, reverse, rtol=1e-4, atol=1e-5)
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(forward)) > 1e-3


@both_kinds
def test_a_pass_is_the_same_with_and_without_jit(model):
    variables = model.init(KEY, IMAGES)
    for train in (False, True):
        compiled = jax.jit(lambda v, k, train=train: model.apply(v, IMAGES, train=train, key=k))
        plain = model.apply(variables, IMAGES, train=train, key=KEY)
        assert_trees_close(compiled(variables, KEY), plain)


@both_kinds
def test_dropout_follows_the_key_and_only_in_training(model):
    variables = model.init(KEY, IMAGES)

    def logits(train, seed):
        return model.apply(variables, IMAGES, train=train, key=jax.random.key(seed))[0]

    np.testing.assert_array_equal(logits(True, 1), logits(True, 1))
    assert not np.allclose(logits(True, 1), logits(True, 2))
    np.testing.assert_array_equal(logits(False, 1), logits(False, 2))
    np.testing.assert_array_equal(logits(False, 1), model.apply(variables, IMAGES)[0])


@both_kinds
def test_only_training_changes_the_state_and_modules_hold_none(model):
    variables = model.init(KEY, IMAGES)
    before = jax.tree.map(np.array, variables)
    _, trained = model.apply(variables, IMAGES, train=True, key=KEY)
    _, untouched = model.apply(variables, IMAGES)
    assert_trees_equal(variables, before)
    assert_trees_equal(untouched, before.state)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), trained, before.state)
    assert jax.tree.leaves(changed) == [True, True]


@both_kinds
def test_init_and_apply_map_over_keys(model):
    keys = jax.random.split(KEY, 2)
    singles = [model.init(key, IMAGES) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
    mapped = jax.eval_shape(jax.vmap(lambda key: model.init(key, IMAGES)), keys)
    assert jax.tree.map(jnp.shape, mapped) == jax.tree.map(jnp.shape, stacked)
    kernels = stacked.params["head"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])

    passing = jax.vmap(lambda v, k: model.apply(v, IMAGES, train=True, key=k))
    second = jax.tree.map(lambda leaf: leaf[1], jax.jit(passing)(stacked, keys))
    expected = model.apply(singles[1], IMAGES, train=True, key=keys[1])
    assert_trees_close(second, expected)


@both_kinds
def test_variables_are_nested_dicts_of_arrays(model):
    variables = model.init(KEY, IMAGES)

    def check(tree):
        if isinstance(tree, dict):
            assert all(type(key) is str for key in tree)
            for subtree in tree.values():
                check(subtree)
        else:
            assert isinstance(tree, jax.Array)
            assert not jnp.issubdtype(tree.dtype, jax.dtypes.prng_key)

    check(variables.params)
    check(variables.state)
    assert count_params(variables) == (9 * 8 + 8) + (8 + 8) + (8 * 3 + 3)


@pytest.mark.parametrize("flag", ["train", "deterministic", "use_running_average", "training"])
def test_linen_mode_flags_by_name(flag):
    inverted = flag in ("deterministic", "use_running_average")
    source = (
        "class Net(nn.Module):\n"
        f"    def __call__(self, x, {flag}: bool):\n"
        f"        return x * (2.0 if {flag} is {not inverted} else 1.0)\n"
    )
    scope = {"nn": nn, "__name__": __name__}
    exec(source, scope)  # the argument's name is what is tested
    model = from_linen(scope["Net"](), name="net")
    variables = model.init(KEY, IMAGES)
    np.testing.assert_array_equal(model.apply(variables, IMAGES)[0], IMAGES)
    np.testing.assert_array_equal(model.apply(variables, IMAGES, train=True)[0], 2 * IMAGES)


def test_linen_random_streams_of_any_name_follow_the_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            return x + jax.random.normal(self.make_rng("noise"), x.shape) if train else x

    model = from_linen(Noisy(), name="noisy")
    variables = model.init(KEY, IMAGES)
    passes = [
        model.apply(variables, IMAGES, train=True, key=jax.random.key(seed))[0] for seed in (1, 2)
    ]
    assert not np.allclose(*passes)


def test_nnx_lists_arguments_and_intermediates_are_handled():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(2)])
            self.calls = nnx.Variable(jnp.zeros([]))
            self.dropout = nnx.Dropout(0.5)

        def __call__(self, x, *, train, rngs):
            for layer in self.layers:
                x = layer(x)
            self.hidden = nnx.Intermediate(x)
            if train:
                self.calls[...] += 1
            return self.dropout(x, rngs=rngs)

    model = from_nnx(Net, name="net")
    inputs = jnp.ones([8, 2])
    variables = model.init(KEY, inputs)
    assert sorted(variables.params["layers"]) == ["0", "1"]
    logits, _ = model.apply(variables, inputs)
    first, second = variables.params["layers"]["0"], variables.params["layers"]["1"]
    np.testing.assert_allclose(logits, inputs @ first["kernel"] @ second["kernel"], rtol=1e-5)
    dropped, state = model.apply(variables, inputs, train=True, key=KEY)
    assert state == {"calls": 1.0}
    assert 0 < np.mean(dropped == 0.0) < 1


def test_two_nnx_dropout_layers_draw_different_masks():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Dropout(0.5, rngs=rngs)
            self.second = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return jnp.stack([self.first(x), self.second(x)])

    model = from_nnx(Net, name="net")
    (first, second), _ = model.apply(
        model.init(KEY, jnp.ones([64])), jnp.ones([64]), train=True, key=KEY
    )
    assert not np.array_equal(first, second)


def test_nnx_modules_that_cannot_be_pure_are_refused():
    class BareArray(nnx.Module):
        def __init__(self, rngs):
            self.table = jnp.ones(3)

    class NeedsMask(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(2, 2, rngs=rngs)

        def __call__(self, x, mask):
            return self.layer(x)

    with refused("model", "bare", "table"):
        from_nnx(BareArray, name="bare")
    with refused("model", "masked", "mask"):
        from_nnx(NeedsMask, name="masked")
    with refused("model", "number", "int"):
        from_nnx(lambda rngs: 3, name="number")


def test_a_linen_module_with_further_arguments_is_refused():
    class NeedsMask(nn.Module):
        def __call__(self, x, mask):
            return x

    with refused("model", "masked", "mask"):
        from_linen(NeedsMask(), name="masked")


def test_a_random_training_pass_without_a_key_is_refused():
    model = PAIR_WITH_DROPOUT[1]
    with refused("key", "nnx"):
        model.apply(model.init(KEY, IMAGES), IMAGES, train=True)
    augmented = with_preprocessing(PAIR[0], mean=(0.5,), std=(0.25,), augment=True)
    with refused("key", "linen"):
        augmented.apply(VARIABLES, IMAGES, train=True)


def test_hand_written_functions_become_a_model():
    model = from_functions(
        lambda key, x: {"w": jax.random.normal(key, [x.shape[-1], 2])},
        lambda params, x: x @ params["w"],
        name="linear",
    )
    inputs = jnp.arange(6.0).reshape([2, 3])
    variables = model.init(KEY, inputs)
    logits, state = model.apply(variables, inputs, train=True, key=KEY)
    np.testing.assert_array_equal(logits, inputs @ variables.params["w"])
    assert state == {}
    assert count_params(variables) == 6
    assert model.name == "linear"


def test_preprocessing_normalises_always_and_augments_only_in_training():
    identity = from_functions(lambda key, x: {}, lambda params, x: x, name="identity")
    images = np.random.default_rng(0).integers(0, 256, [5, 8, 8, 3], dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    expected = normalise(images, mean, std)

    plain = with_preprocessing(identity, mean=mean, std=std, augment=False)
    variables = plain.init(KEY, images)
    for train in (False, True):
        outputs, _ = plain.apply(variables, images, train=train, key=KEY)
        np.testing.assert_array_equal(outputs, expected)

    augmented = with_preprocessing(identity, mean=mean, std=std, augment=True)
    np.testing.assert_array_equal(augmented.apply(variables, images, key=KEY)[0], expected)
    outputs, _ = augmented.apply(variables, images, train=True, key=KEY)
    augment_key, _ = jax.random.split(KEY)
    np.testing.assert_array_equal(outputs, normalise(pad_crop_flip(augment_key, images), mean, std))
    other, _ = augmented.apply(variables, images, train=True, key=jax.random.key(1))
    assert not np.array_equal(outputs, other)
