"""Boundary expand: the authors' run, and that two passes are the network with one more class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import build, from_functions
from ltu_jax.models.layers import head
from ltu_jax.training.loop import unlearn
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.boundary_expand import (
    BoundaryExpandConfig,
    Column,
    Widened,
    boundary_expand,
    new_column,
    widened_apply,
)
from tests.models.pairs import linen_and_nnx
from tests.unlearners.parity import Case, net


def split_head(params):
    """The reference's widened network as the network of C classes and the extra column."""
    fc = params["fc"]
    narrow = {"kernel": fc["kernel"][:, :-1], "bias": fc["bias"][:-1]}
    return Widened({**params, "fc": narrow}, Column(fc["kernel"][:, -1], fc["bias"][-1]))


def join_head(widened):
    """The inverse of `split_head`."""
    fc, extra = widened.params["fc"], widened.extra
    wide = {
        "kernel": jnp.concatenate([fc["kernel"], extra.kernel[:, None]], axis=1),
        "bias": jnp.append(fc["bias"], extra.bias),
    }
    return {**widened.params, "fc": wide}


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("salun_boundary_expanding")
    original, wide = case.variables("base"), case.variables("init")
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    model = net()._replace(init=lambda key, inputs: original)
    method = boundary_expand(
        model, spec_of(case.data, case.meta["num_classes"]), BoundaryExpandConfig(), tx=tx
    )
    state = method.prepare(jax.random.key(0), original, case.data)
    drawn = state.variables.params
    jax.tree.map(np.testing.assert_array_equal, drawn.params, split_head(wide.params).params)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, split_head(wide.params))

    # The extra column is random, so the run starts from the reference's.
    state = state._replace(variables=Variables(split_head(wide.params), wide.state))
    step = jax.jit(method.step)
    trajectory = [join_head(state.variables.params)]
    for t in range(case["n_steps"]):
        batch = case.batch(t)
        assert (batch.labels == case.meta["num_classes"]).all()
        state, info = step(jax.random.key(0), state, batch.inputs)
        np.testing.assert_allclose(info["extra_loss"], case["steps/loss"][t], rtol=1e-9)
        trajectory.append(join_head(state.variables.params))
    case.assert_follows(trajectory)
    case.assert_state(state.variables.state, "final")
    finished = method.finish(state).params
    assert jax.tree.map(jnp.shape, finished) == jax.tree.map(jnp.shape, original.params)


def init(key, inputs):
    one, two = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(one, (inputs.shape[-1], 6))},
        "top": {"kernel": jax.random.normal(two, (6, 3)), "bias": jnp.zeros(3)},
    }


def apply(params, inputs):
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"])
    return hidden @ params["top"]["kernel"] + params["top"]["bias"]


MODEL = from_functions(init, apply, name="two_layers")


def small(num_forget):
    rng = np.random.default_rng(0)
    sets = [
        Examples(jnp.asarray(rng.normal(size=(size, 4)), jnp.float32), jnp.arange(size) % 3)
        for size in (num_forget, 3, 3)
    ]
    return UnlearnData(*sets), MODEL.init(jax.random.key(1), sets[0].inputs)


@pytest.mark.parametrize("num_forget", [1, 10])
def test_forget_set_learns_the_extra_class_which_is_then_removed(num_forget):
    data, variables = small(num_forget)
    config = BoundaryExpandConfig(epochs=8, batch_size=4, learning_rate=0.1)
    method = boundary_expand(MODEL, spec_of(data, 3), config)
    result, history = unlearn(method, variables, data, key=jax.random.key(2))
    assert history["extra_loss"][-1] < 0.1 < history["extra_loss"][0]
    assert jax.tree.map(jnp.shape, result) == jax.tree.map(jnp.shape, variables)


def test_labels_and_retain_set_are_not_used():
    data, variables = small(10)
    method = boundary_expand(MODEL, spec_of(data, 3))
    bare = UnlearnData(Examples(data.forget.inputs, None), None, None)
    state = method.prepare(jax.random.key(2), variables, bare)
    batch = jax.jit(method.sample)(jax.random.key(2), 0, state, bare)
    np.testing.assert_array_equal(*(np.sort(x, axis=0) for x in (batch, data.forget.inputs)))


def widened(model, inputs, num_classes):
    """The head of a network and the shapes of its widened variables."""
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    where = head(model, variables, inputs, num_classes)
    extra = jax.eval_shape(lambda p: new_column(jax.random.key(0), p, where), variables.params)
    return where, variables._replace(params=Widened(variables.params, extra))


@pytest.mark.parametrize("name", ["resnet20", "vit_tiny"])
def test_built_in_models_can_be_widened(name):
    model, inputs = build(name, 3), jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
    where, variables = widened(model, inputs, 3)
    logits, state = jax.eval_shape(
        lambda v, x: widened_apply(model, where, v, x, train=True, key=jax.random.key(0)),
        variables,
        inputs,
    )
    assert logits.shape == (4, 4)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, variables.state)


def test_all_but_the_last_layer_is_computed_once():
    model, inputs = build("mlp", 3), jnp.ones([4, 20])
    where, variables = widened(model, inputs, 3)

    def narrow(params):
        return model.apply(Variables(params.params, {}), inputs)[0].sum()

    def wide(params):
        return widened_apply(model, where, Variables(params, {}), inputs)[0].sum()

    one, two = (
        jax.jit(jax.grad(f)).lower(variables.params).compile().cost_analysis()["flops"]
        for f in (narrow, wide)
    )
    assert two < 1.1 * one


def test_extra_logit_is_that_of_a_column_in_place_of_column_0():
    _, model = linen_and_nnx()
    inputs, key = jax.random.normal(jax.random.key(3), (4, 8, 8, 1)), jax.random.key(0)
    variables = model.init(key, inputs)
    where = head(model, variables, inputs, 3)
    extra = new_column(jax.random.key(1), variables.params, where)
    alike = {"kernel": jnp.tile(extra.kernel[:, None], 3), "bias": jnp.tile(extra.bias, 3)}

    @jax.jit
    def passes(params, other_params):
        wide = Variables(Widened(params, extra), variables.state)
        one = widened_apply(model, where, wide, inputs, train=True, key=key)
        narrow = Variables(params, variables.state), Variables(other_params, variables.state)
        return one, *(model.apply(v, inputs, train=True, key=key) for v in narrow)

    (logits, state), (wanted, wanted_state), (wanted_extra, _) = passes(
        variables.params, {**variables.params, "head": alike}
    )
    np.testing.assert_allclose(logits[:, :3], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits[:, 3], wanted_extra[:, 0], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, wanted_state)


def test_extra_column_is_drawn_like_a_dense_layer():
    data, variables = small(2)
    method = boundary_expand(MODEL, spec_of(data, 3))
    one, two = (
        method.prepare(jax.random.key(seed), variables, data).variables.params.extra
        for seed in (1, 2)
    )
    assert one.kernel.shape == (6,)
    assert one.bias.shape == ()
    assert not np.array_equal(one.kernel, two.kernel)
    assert max(np.abs(one.kernel).max(), np.abs(one.bias)) <= 6**-0.5


def test_a_model_without_a_dense_head_is_refused():
    data, _ = small(2)
    with pytest.raises(InputError) as error:
        boundary_expand(MODEL, spec_of(data, 4))
    assert error.value.argument == "model"


def test_a_model_with_a_softmax_is_refused():
    data, variables = small(2)
    model = from_functions(init, lambda p, x: jax.nn.log_softmax(apply(p, x)), name="softmax")
    method = boundary_expand(model, spec_of(data, 3))
    with pytest.raises(InputError) as error:
        method.prepare(jax.random.key(0), variables, data)
    assert error.value.argument == "model"
