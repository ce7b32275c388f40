"""A trained network in memory, in whatever form its framework keeps it."""

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions, update_nnx, wrap
from ltu_jax.training.checkpoint import restore
from ltu_jax.training.given import as_variables, save_checkpoint

KEY = jax.random.key(0)
X = jnp.ones([4, 3])


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(x))


class NNX(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        self.sown = nnx.Intermediate(x)
        for layer in self.layers:
            x = layer(x)
        return self.dropout(x)


def like(model):
    return jax.eval_shape(model.init, KEY, X)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def trained_nnx():
    module = NNX(rngs=nnx.Rngs(1))
    module(X)  # leaves statistics and an intermediate value
    return module


def test_a_trained_nnx_module_is_taken_as_it_is_and_given_back():
    module, model = trained_nnx(), wrap(NNX)
    variables = as_variables(module, like(model))
    module.eval()
    np.testing.assert_array_equal(model.apply(variables, X)[0], module(X))

    changed = jax.tree.map(lambda x: x + 1, variables)
    update_nnx(module, changed)
    np.testing.assert_array_equal(module(X), model.apply(changed, X)[0])
    assert_same(as_variables(module, like(model)), changed)


@pytest.mark.parametrize("form", [dict, flax.core.freeze], ids=["dict", "frozen"])
def test_linen_variables_are_parted(form):
    collections = Linen().init(KEY, X)
    variables = as_variables(form(collections), like(wrap(Linen())))
    assert_same(variables.params, collections["params"])
    assert_same(variables.state, {"batch_stats": collections["batch_stats"]})
    assert_same(as_variables(variables, like(wrap(Linen()))), variables)


def test_any_pytree_of_parameters_will_do():
    model = from_functions(
        lambda key, x: [(jnp.ones([3, 2]), jnp.zeros(2)), {"params": jnp.ones(())}],
        lambda params, x: x @ params[0][0] + params[0][1] * params[1]["params"],
        name="own",
    )
    as_numpy = [[np.full([3, 2], 2.0), np.zeros(2, np.float16)], {"params": np.float64(3)}]
    variables = as_variables(as_numpy, like(model))
    assert jax.tree.structure(variables) == jax.tree.structure(like(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    inside = from_functions(lambda key, x: {"params": jnp.ones(2)}, lambda p, x: x, name="own")
    assert_same(as_variables({"params": jnp.ones(2)}, like(inside)).params, {"params": jnp.ones(2)})


def test_the_users_own_arrays_are_left_alone():
    array = np.ones([3, 2], np.float32)
    model = from_functions(lambda key, x: {"w": jnp.ones([3, 2])}, lambda p, x: x, name="own")
    variables = as_variables({"w": array}, like(model))
    array[:] = 0
    np.testing.assert_array_equal(variables.params["w"], 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda c: c["params"], r"\['state'\]\['batch_stats'\].* has nothing.*the statistics too"),
        (lambda c: {**c, "params": {}}, r"\['params'\]\['BatchNorm_0'\].* has nothing"),
        (lambda c: nn.Dense(5).init(KEY, X), r"expected|has shape"),
        (lambda c: jax.tree.map(lambda x: x * jnp.nan, c), "holds NaN or infinity"),
        (lambda c: jax.tree.map(lambda x: x.astype(int), c), "is int32; the model has float32"),
        (lambda c: 3, "params: are not those of the model"),
    ],
)
def test_another_network_is_refused(given, message):
    with pytest.raises(InputError, match=message) as caught:
        as_variables(given(Linen().init(KEY, X)), like(wrap(Linen())))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["nnx", "linen", "bare"])
def test_what_is_saved_is_a_checkpoint(tmp_path, kind):
    dense = nn.Dense(2)
    collections = Linen().init(KEY, X)
    given, model = {
        "nnx": (trained_nnx(), wrap(NNX)),
        "linen": (collections, wrap(Linen())),
        "bare": (dense.init(KEY, X)["params"], wrap(dense)),
    }[kind]
    save_checkpoint(tmp_path / "net", given)
    restored = restore(tmp_path / "net", like(model))
    assert_same(restored, as_variables(given, like(model)))
    with pytest.raises(InputError, match="exists already"):
        save_checkpoint(tmp_path / "net", given)
