"""Exported models are restored exactly, and wrong checkpoints or parameters are named."""

import gc

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions, update_nnx, wrap
from ltu_jax.training.checkpoint import as_variables, export, restore, save_checkpoint
from ltu_jax.types import Variables

KEY = jax.random.key(0)
X = jnp.ones([4, 3])


def variables(width=3, state=True):
    return Variables(
        {"dense": {"kernel": jnp.arange(2.0 * width).reshape(2, width), "bias": jnp.ones(width)}},
        {"norm": {"mean": jnp.full(width, 0.5)}} if state else {},
    )


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def refused(function, *args):
    with pytest.raises(InputError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("state", [True, False])
def test_an_exported_model_is_restored(tmp_path, state):
    export(tmp_path / "net", variables(state=state))
    like = jax.tree.map(jnp.zeros_like, variables(state=state))
    assert_same(restore(tmp_path / "net", like), variables(state=state))


def test_a_folder_without_checkpoint_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for folder in (tmp_path / "nothing", tmp_path):
        error = refused(restore, folder, variables())
        assert error.argument == "checkpoint"
        assert str(folder) in error.problem


@pytest.mark.parametrize(
    ("like", "where"),
    [
        (variables(width=4), "['params']['dense']['bias'] has shape (3,), expected shape (4,)"),
        (variables(state=False), "['state']['norm']['mean'] has shape (3,), expected nothing"),
    ],
)
def test_another_architecture_is_named(tmp_path, like, where):
    export(tmp_path / "net", variables())
    error = refused(restore, tmp_path / "net", like)
    assert error.argument == "checkpoint"
    assert where in error.problem


# Orbax abandons the coroutines of a failed read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_truncated_checkpoint_is_named(tmp_path):
    export(tmp_path / "net", variables())
    arrays = [path for path in (tmp_path / "net").rglob("d/*") if path.is_file()]
    assert arrays
    for path in arrays:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refused(restore, tmp_path / "net", variables()).argument == "checkpoint"
    gc.collect()  # so that abandoned coroutines are reported in this test, not in a later one


def test_an_existing_folder_is_not_overwritten(tmp_path):
    export(tmp_path / "net", variables())
    with pytest.raises(FileExistsError):
        export(tmp_path / "net", variables(width=4))
    assert_same(restore(tmp_path / "net", variables()), variables())


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


def trained_nnx():
    module = NNX(rngs=nnx.Rngs(1))
    module(X)  # leaves statistics and an intermediate value
    return module


def test_a_trained_nnx_module_becomes_variables_and_back():
    module, model = trained_nnx(), wrap(NNX)
    variables = as_variables(module, like(model))
    module.eval()
    np.testing.assert_array_equal(model.apply(variables, X)[0], module(X))

    changed = jax.tree.map(lambda x: x + 1, variables)
    update_nnx(module, changed)
    np.testing.assert_array_equal(module(X), model.apply(changed, X)[0])
    assert_same(as_variables(module, like(model)), changed)


@pytest.mark.parametrize("form", [dict, flax.core.freeze], ids=["dict", "frozen"])
def test_linen_variables_are_split_into_parameters_and_state(form):
    collections = Linen().init(KEY, X)
    variables = as_variables(form(collections), like(wrap(Linen())))
    assert_same(variables.params, collections["params"])
    assert_same(variables.state, {"batch_stats": collections["batch_stats"]})
    assert_same(as_variables(variables, like(wrap(Linen()))), variables)


def test_any_pytree_of_parameters_is_accepted():
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


def test_variables_are_copies_of_the_users_arrays():
    array = np.ones([3, 2], np.float32)
    model = from_functions(lambda key, x: {"w": jnp.ones([3, 2])}, lambda p, x: x, name="own")
    variables = as_variables({"w": array}, like(model))
    array[:] = 0
    np.testing.assert_array_equal(variables.params["w"], 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["params"], "['state']['batch_stats']['BatchNorm_0']['mean'] has nothing"),
        (lambda c: {**c, "params": {}}, "['params']['BatchNorm_0']['bias'] has nothing"),
        (lambda c: nn.Dense(5).init(KEY, X), "expected"),
        (lambda c: jax.tree.map(lambda x: x * jnp.nan, c), "NaN"),
        (lambda c: jax.tree.map(lambda x: x.astype(int), c), "int32"),
        (lambda c: 3, ""),
    ],
)
def test_parameters_of_another_model_are_refused(change, problem):
    error = refused(as_variables, change(Linen().init(KEY, X)), like(wrap(Linen())))
    assert error.argument == "params"
    assert problem in error.problem


@pytest.mark.parametrize("form", ["nnx", "linen", "bare"])
def test_a_saved_checkpoint_can_be_restored(tmp_path, form):
    dense = nn.Dense(2)
    collections = Linen().init(KEY, X)
    params, model = {
        "nnx": (trained_nnx(), wrap(NNX)),
        "linen": (collections, wrap(Linen())),
        "bare": (dense.init(KEY, X)["params"], wrap(dense)),
    }[form]
    save_checkpoint(tmp_path / "net", params)
    restored = restore(tmp_path / "net", like(model))
    assert_same(restored, as_variables(params, like(model)))
    assert refused(save_checkpoint, tmp_path / "net", params).argument == "folder"
