"""Modules with mode flags, sown values, other arrays and bridges, as people write them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltu_jax.errors import InputError, collect_warnings
from ltu_jax.models import check_training_pass, from_functions, wrap

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), [16, 4])


def passes(model):
    """Logits and state of an evaluation pass, and of a training pass."""
    model = wrap(model)
    variables = model.init(KEY, X)
    return (*model.apply(variables, X), *model.apply(variables, X, train=True, key=KEY))


def check_learns(model):
    evaluated, before, trained, after = passes(model)
    assert not np.allclose(evaluated, trained)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    statistics = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert any(not np.array_equal(*pair) for pair in statistics)


def body(x, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
    return nn.Dropout(0.5, deterministic=not train)(x)


class EvalMode(nn.Module):
    @nn.compact
    def __call__(self, x, *rest, eval_mode=True, **others):
        return body(x, not eval_mode)


class TrainMode(nn.Module):
    @nn.compact
    def __call__(self, x, train_mode: bool = False, scale: float = 1.0):
        return scale * body(x, train_mode)


class Attribute(nn.Module):
    width: int = 5
    inference: bool = True

    @nn.compact
    def __call__(self, x):
        return body(x, not self.inference)


class NNXAttribute(nnx.Module):
    def __init__(self, width=5, *, rngs):
        self.dense = nnx.Linear(4, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.is_training = False

    def __call__(self, x):
        x = self.norm(self.dense(x))
        return 2 * x if self.is_training else x


class Drop(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, *, testing=True, is_test=True):
        return self.drop(self.norm(x, use_running_average=is_test), deterministic=is_test)


def bridged(rngs):
    return nnx.bridge.lazy_init(nnx.bridge.ToNNX(TrainMode(), rngs=rngs), X)


@pytest.mark.parametrize(
    "model",
    [
        EvalMode(),
        TrainMode(),
        Attribute,
        functools.partial(Attribute, 3, inference=False),
        NNXAttribute,
        functools.partial(NNXAttribute, width=2),
        functools.partial(NNXAttribute, 2),
        lambda **options: NNXAttribute(**options),
        Drop,
        bridged,
        nnx.bridge.ToLinen(Drop),
    ],
)
def test_mode_flags_of_many_names_train_statistics_and_dropout(model):
    check_learns(model)


def test_partials_of_one_class_differ_in_their_arguments():
    assert passes(functools.partial(NNXAttribute, 2))[0].shape == (16, 2)
    assert passes(functools.partial(NNXAttribute, width=3))[0].shape == (16, 3)


class Fixed(nn.Module):
    drop: bool = True

    @nn.compact
    def __call__(self, x, phase: str = "eval"):
        return (
            body(x, phase != "eval")
            if not self.drop
            else nn.Dropout(0.5, deterministic=phase == "eval")(nn.Dense(3)(x))
        )


class FixedNNX(nnx.Module):
    def __init__(self, *, rngs):
        self.dense, self.drop = nnx.Linear(4, 3, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x, active=False):
        return self.drop(self.dense(x), deterministic=not active)


class NoRate(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dropout(0.0, deterministic=not train)(nn.Dense(3)(x))


@pytest.mark.parametrize(
    ("model", "warnings"),
    [
        (Fixed(), 1),
        (Fixed(drop=False), 2),
        (FixedNNX, 1),
        (NoRate(), 0),
        (TrainMode(), 0),
        (Drop, 0),
        (nn.Dense(3), 0),
    ],
)
def test_a_training_pass_that_trains_no_statistics_or_dropout_is_warned_of(model, warnings):
    model = wrap(model)
    like = jax.eval_shape(model.init, KEY, X)
    with collect_warnings() as found:
        check_training_pass(model, like, jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert len(found) == warnings


class Sows(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        self.sow("losses", "balance", x.mean())
        self.sow("router", "load", x.sum(), init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)
        self.sow("intermediates", "hidden", x)
        return self.perturb("hidden", x)


class Counts(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        if train or self.is_initializing():
            steps = self.variable("schedule", "steps", jnp.zeros, (), jnp.int32)
            if not self.is_initializing():
                steps.value += 1
        self.sow("aux", "mean", x.mean())
        return nn.Dense(5)(x)


@pytest.mark.parametrize(("model", "kept"), [(Sows(), {"batch_stats"}), (Counts(), {"schedule"})])
def test_sown_values_are_not_model_state(model, kept):
    _, before, _, after = passes(model)
    assert before.keys() == after.keys() == kept
    assert jax.tree.structure(before) == jax.tree.structure(after)


class Keyed(nnx.Module):
    def __init__(self, *, rngs):
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.projection = nnx.Variable(jax.random.key(3))
        self.order = nnx.Variable(jnp.arange(4)[::-1])
        self.nothing = nnx.Param(None)

    def __call__(self, x):
        noise = jax.random.normal(self.projection[...], (4,))
        return self.dense(x[:, self.order[...]] + noise)


def test_keys_and_integers_of_a_module_are_state_that_can_be_stored():
    logits, state, again, _ = passes(Keyed)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {
        np.dtype("uint32"),
        np.dtype("int32"),
    }
    np.testing.assert_array_equal(logits, again)


def with_key(params, key, x):
    return x @ params if key is None else x @ params + jax.random.normal(key, (3,))


def with_state(params, state, rng, inputs, is_training=True):
    return inputs @ params, {"seen": state["seen"] + len(inputs)}


def as_in_haiku(params, state, rng, *args, **kwargs):
    return with_state(params, state, rng, *args)


@pytest.mark.parametrize(
    ("apply", "changes_logits"), [(with_key, True), (with_state, False), (as_in_haiku, False)]
)
def test_functions_of_a_key_or_a_state_are_models(apply, changes_logits):
    def init(key, x):
        params = jax.random.normal(key, (x.shape[-1], 3))
        return params if apply is with_key else (params, {"seen": jnp.zeros(())})

    model = from_functions(init, apply, name="pure")
    variables = model.init(KEY, X)
    evaluated, state = model.apply(variables, X)
    trained, after = model.apply(variables, X, train=True, key=KEY)
    assert np.array_equal(evaluated, trained) != changes_logits
    assert state == variables.state
    assert apply is with_key or after["seen"] == len(X)


@pytest.mark.parametrize("apply", [lambda x: x, lambda p, s, k, x, y: x, lambda p, x, *, c: x])
def test_functions_of_other_arguments_are_refused(apply):
    with pytest.raises(InputError) as caught:
        from_functions(lambda key, x: {}, apply, name="other")
    assert caught.value.argument == "model"


@pytest.mark.parametrize(
    "model",
    [
        nn.Dense,
        lambda rngs: nnx.bridge.ToNNX(nn.Dense(3), rngs=rngs),
        nnx.Linear(2, 2, rngs=nnx.Rngs(0)),
    ],
)
def test_modules_that_cannot_be_made_are_refused(model):
    with pytest.raises(InputError) as caught:
        wrap(model)
    assert caught.value.argument == "model"


def test_an_equinox_module_is_refused_with_the_way_out():
    eqx = pytest.importorskip("equinox")
    with pytest.raises(InputError) as caught:
        wrap(eqx.nn.MLP(4, 3, 8, 1, key=KEY))
    assert "from_functions" in caught.value.remedy
