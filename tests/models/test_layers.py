"""The order of layers, found by tracing without initialisation."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from ltu_jax.models import build, from_functions, from_nnx
from ltu_jax.models.layers import head, last_layers, layers
from tests.models.pairs import linen_and_nnx
from tests.refusals import refused

CLASSES = 5
DIGITS = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)


def shapes_of(model, inputs=DIGITS):
    return jax.eval_shape(model.init, jax.random.key(0), inputs)


def name_of(path):
    return "/".join(key.key if hasattr(key, "key") else key.name for key in path)


def layer_names(model, inputs=DIGITS):
    found = layers(model, shapes_of(model, inputs), inputs)
    return [name_of(paths[0][:-1]) for paths in found]


def in_last(model, k):
    mask = last_layers(model, shapes_of(model), DIGITS, k)
    return {name_of(path[:-1]) for path, last in jax.tree_util.tree_leaves_with_path(mask) if last}


def of_resnet20():
    names = ["Conv_0", "BatchNorm_0"]
    for block in range(9):
        for part in range(3 if block in (3, 6) else 2):
            names += [f"BasicBlock_{block}/{kind}_{part}" for kind in ("Conv", "BatchNorm")]
    return [*names, "Dense_0"]


def of_vit():
    names = ["Conv_0", ""]  # the position embedding has no parent
    for block in range(4):
        attention = [
            f"MultiHeadDotProductAttention_0/{n}" for n in ("query", "key", "value", "out")
        ]
        parts = ["LayerNorm_0", *attention, "LayerNorm_1", "Dense_0", "Dense_1"]
        names += [f"EncoderBlock_{block}/{part}" for part in parts]
    return [*names, "LayerNorm_0", "Dense_0"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mlp", ["Dense_0", "Dense_1", "Dense_2"]),
        ("cnn", ["Conv_0", "Conv_1", "Conv_2", "Dense_0"]),
        ("resnet20", of_resnet20()),
        ("vit_tiny", of_vit()),
    ],
)
def test_built_in_networks(name, wanted):
    model = build(name, CLASSES)
    assert layer_names(model) == wanted
    found = head(model, shapes_of(model), DIGITS, CLASSES)
    assert name_of(found.kernel) == f"{wanted[-1]}/kernel"
    assert name_of(found.bias) == f"{wanted[-1]}/bias"


@pytest.mark.parametrize("model", linen_and_nnx(), ids=["linen", "nnx"])
def test_linen_and_nnx_agree(model):
    assert layer_names(model) == ["conv", "norm", "head"]
    assert name_of(head(model, shapes_of(model), DIGITS, 3).kernel) == "head/kernel"


def test_layers_are_ordered_by_use_not_by_name():
    class Backwards(nnx.Module):
        def __init__(self, rngs):
            self.a_last = nnx.Linear(8, CLASSES, rngs=rngs)
            self.hidden = nnx.List(nnx.Linear(8, 8, rngs=rngs) for _ in range(3))
            self.unused = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x):
            for layer in reversed(list(self.hidden)):
                x = layer(x)
            return self.a_last(x)

    inputs = jax.ShapeDtypeStruct((2, 8), jnp.float32)
    found = layer_names(from_nnx(lambda rngs: Backwards(rngs), name="backwards"), inputs)
    assert found == ["unused", "hidden/2", "hidden/1", "hidden/0", "a_last"]


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def cast_first(params, x):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    return dense(params["b"], dense(params["c"], dense(params["a"], x)))


def jitted(params, x):
    return jax.jit(lambda p, x: dense(p["b"], dense(p["c"], dense(p["a"], x))))(params, x)


def rematerialised(params, x):
    hidden = jax.checkpoint(lambda p, x: dense(p["c"], dense(p["a"], x)))(params, x)
    return dense(params["b"], hidden)


def custom_gradient(params, x):
    @jax.custom_vjp
    def inner(p, x):
        return dense(p["b"], dense(p["c"], dense(p["a"], x)))

    inner.defvjp(lambda p, x: (inner(p, x), p), lambda p, g: (p, g))
    return inner(params, jax.nn.relu(x))  # relu is a custom_jvp


def in_a_branch(params, x):  # operands do not map one to one: used at the `cond` as a whole
    x = dense(params["c"], dense(params["a"], x))
    return jax.lax.cond(x.sum() > 0, lambda p: dense(p, x), lambda p: -dense(p, x), params["b"])


@pytest.mark.parametrize(
    "apply", [cast_first, jitted, rematerialised, custom_gradient, in_a_branch]
)
def test_order_is_found_through_transformations(apply):
    def init(key, inputs):
        del key, inputs
        return {name: {"kernel": jnp.ones([8, 8]), "bias": jnp.ones([8])} for name in "abc"}

    inputs = jax.ShapeDtypeStruct((2, 8), jnp.float32)
    assert layer_names(from_functions(init, apply, name="net"), inputs) == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("name", "k", "wanted"),
    [
        ("cnn", 1, {"Dense_0"}),
        ("cnn", 2, {"Dense_0", "Conv_2"}),
        ("cnn", 4, {"Dense_0", "Conv_2", "Conv_1", "Conv_0"}),
        ("cnn", 9, {"Dense_0", "Conv_2", "Conv_1", "Conv_0"}),
        ("vit_tiny", 2, {"Dense_0", "LayerNorm_0", "EncoderBlock_3/Dense_1"}),
    ],
)
def test_last_layers(name, k, wanted):
    found = in_last(build(name, CLASSES), k)
    assert found == {f"params/{name}" for name in wanted}


def test_state_belongs_to_its_layer():
    block = "BasicBlock_8/"
    last, norms = {"params/Dense_0"}, "state/batch_stats/"
    model = build("resnet20", CLASSES)
    assert in_last(model, 1) == last
    last |= {f"params/{block}Conv_1", f"params/{block}BatchNorm_1", f"{norms}{block}BatchNorm_1"}
    assert in_last(model, 2) == last
    last |= {f"params/{block}Conv_0", f"params/{block}BatchNorm_0", f"{norms}{block}BatchNorm_0"}
    assert in_last(model, 3) == last
    assert all(jax.tree.leaves(last_layers(model, shapes_of(model), DIGITS, 99)))


def without_bias(params, x):
    return x @ params["kernel"]


def with_scale(params, x):
    return (x @ params["kernel"] + params["bias"]) * params["scale"]


@pytest.mark.parametrize(
    ("apply", "shapes", "last"),
    [
        (without_bias, {"kernel": (8, 5)}, "['kernel'] [8, 5]"),
        (with_scale, {"bias": (5,), "kernel": (8, 5), "scale": (5,)}, "['scale'] [5]"),
        (dense, {"kernel": (8, 6), "bias": (6,)}, "[8, 6]"),
    ],
)
def test_a_model_without_a_dense_head_is_refused(apply, shapes, last):
    def init(key, inputs):
        del key, inputs
        return {name: jnp.ones(shape) for name, shape in shapes.items()}

    model, inputs = from_functions(init, apply, name="odd"), jax.ShapeDtypeStruct((2, 8), float)
    with refused("model", "odd", last):
        head(model, shapes_of(model, inputs), inputs, 5)
