"""Built-in models: shapes, modes, gradients and sizes; models by import path."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import MODELS, build, count_params, from_linen
from ltu_jax.models.vit import ViTTiny
from ltu_jax.types import Model, Variables
from tests.refusals import refused

# XLA compiles this generator several times faster than the default one.
KEY = jax.random.key(0, impl="rbg")
CLASSES = 5
# Eight digits, as BatchNorm over two single pixels has no usable gradient.
DIGITS, PHOTOS = (8, 8, 8, 1), (2, 32, 32, 3)
NORMALISED = ("resnet20", "resnet18")
LARGE = pytest.param("resnet18", marks=pytest.mark.slow)
each_model = pytest.mark.parametrize(
    "name", [LARGE if name == "resnet18" else name for name in MODELS]
)
# ResNet-18 is ResNet-20's class at other sizes; once is enough for what costs a compilation each.
each_class = pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet18"])


def inputs_of(shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def weights_of(model, shape) -> Variables:
    """Return weights of the initial scale, drawn by NumPy: compiling `init` takes seconds."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim > 1:
            values = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            values = np.full(leaf.shape, path[-1].key in ("scale", "var"))
        return values.astype(leaf.dtype)

    shapes = jax.eval_shape(model.init, KEY, inputs_of(shape))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@cache
def digits_pass(name):
    """Return, compiled once, all that the tests ask of a network on digits."""
    model = build(name, CLASSES)

    def run(variables, inputs, key):
        def loss(params):
            logits, state = model.apply(
                variables._replace(params=params), inputs, train=True, key=key
            )
            return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]), (logits, state)

        (value, trained), gradient = jax.value_and_grad(loss, has_aux=True)(variables.params)
        return model.apply(variables, inputs, key=key), trained, value, gradient

    return jax.jit(run)


@each_model
def test_training_updates_state_and_evaluation_does_not(name):
    variables, inputs = weights_of(build(name, CLASSES), DIGITS), inputs_of(DIGITS)
    (logits, state), (train_logits, trained), *_ = digits_pass(name)(variables, inputs, KEY)
    assert logits.shape == train_logits.shape == (8, CLASSES)
    assert np.isfinite(logits).all()
    assert np.isfinite(train_logits).all()
    assert jax.tree.structure(state) == jax.tree.structure(trained)
    jax.tree.map(np.testing.assert_array_equal, state, variables.state)
    if name in NORMALISED:
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), trained, state)))
        assert not np.allclose(logits, train_logits)
    else:
        assert state == {}
        np.testing.assert_allclose(logits, train_logits, rtol=1e-4, atol=1e-5)
    other_key = jax.random.key(5, impl="rbg")
    np.testing.assert_array_equal(digits_pass(name)(variables, inputs, other_key)[0][0], logits)


@each_model
def test_a_step_along_the_gradient_lowers_the_loss(name):
    variables, inputs = weights_of(build(name, CLASSES), DIGITS), inputs_of(DIGITS)
    *_, loss, gradient = jax.device_get(digits_pass(name)(variables, inputs, KEY))
    squared_norm = sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
    rate = 0.01 / np.sqrt(squared_norm)
    lower = jax.tree.map(lambda p, g: p - rate * g, variables.params, gradient)
    *_, after, _ = digits_pass(name)(variables._replace(params=lower), inputs, KEY)
    # To first order the loss falls by rate * |gradient|^2.
    np.testing.assert_allclose(loss - after, rate * squared_norm, rtol=0.3)


@each_model
def test_logits_of_photos_are_finite(name):
    model, inputs = build(name, CLASSES), inputs_of(PHOTOS)
    variables = weights_of(model, PHOTOS)
    logits, _ = jax.jit(lambda v: model.apply(v, inputs, train=True, key=KEY))(variables)
    assert logits.shape == (2, CLASSES)
    assert np.isfinite(logits).all()
    assert np.std(logits) > 1e-3


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_jit_changes_nothing(name):
    model, variables, inputs = (
        build(name, CLASSES),
        weights_of(build(name, CLASSES), DIGITS),
        inputs_of(DIGITS),
    )
    (logits, _), *_ = digits_pass(name)(variables, inputs, KEY)
    np.testing.assert_allclose(model.apply(variables, inputs)[0], logits, rtol=1e-4, atol=1e-5)


@cache
def initial(name):
    """Return the compiled init of a network for digits."""
    return jax.jit(lambda key: build(name, CLASSES).init(key, inputs_of(DIGITS)))


@each_class
def test_init_is_a_function_of_the_key(name):
    first, again = initial(name)(KEY), initial(name)(KEY)
    other = initial(name)(jax.random.key(1, impl="rbg"))
    jax.tree.map(np.testing.assert_array_equal, first, again)

    def check(path, one, two):
        constant = path[-1].key in ("bias", "scale")
        assert np.array_equal(one, two) == constant, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(check, first.params, other.params)


def test_dropout_of_the_transformer_follows_the_key():
    model = from_linen(ViTTiny(CLASSES, dropout=0.5, depth=1, width=12), name="vit")
    inputs = inputs_of(DIGITS)
    variables = weights_of(model, DIGITS)

    @jax.jit
    def logits(key):
        return [model.apply(variables, inputs, train=train, key=key)[0] for train in (True, False)]

    first, again, other = (logits(jax.random.key(seed, impl="rbg")) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.allclose(first[0], other[0])
    np.testing.assert_array_equal(first[1], other[1])


def test_kernels_before_a_relu_have_he_variance():
    kernel = initial("cnn")(KEY).params["Conv_2"]["kernel"]
    assert kernel.shape == (3, 3, 48, 64)
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 48)), rtol=0.03)


def convolution(kernel, channels, width):
    return kernel * kernel * channels * width


def dense(width, classes):
    return width * classes + classes


def resnet_size(channels, classes, blocks, widths):
    total = convolution(3, channels, widths[0]) + 2 * widths[0]
    before = widths[0]
    for count, width in zip(blocks, widths, strict=True):
        for _ in range(count):
            total += convolution(3, before, width) + convolution(3, width, width) + 4 * width
            if before != width:
                total += convolution(1, before, width) + 2 * width
            before = width
    return total + dense(before, classes)


def vit_size(patch, channels, classes, width=192, depth=4, tokens=64):
    block = 2 * 2 * width + 4 * dense(width, width) + dense(width, 4 * width)
    block += dense(4 * width, width)
    embedding = convolution(patch, channels, width) + width + tokens * width
    return embedding + depth * block + 2 * width + dense(width, classes)


CNN_SIZE = (27 * 24 + 24) + (9 * 24 * 48 + 48) + (9 * 48 * 64 + 64)


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("mlp", DIGITS, dense(64, 128) + dense(128, 128) + dense(128, 10)),
        ("cnn", PHOTOS, CNN_SIZE + dense(4 * 4 * 64, 10)),
        ("cnn", DIGITS, CNN_SIZE - 9 * 2 * 24 + dense(64, 10)),
        ("resnet20", PHOTOS, 272_474),
        ("resnet20", PHOTOS, resnet_size(3, 10, (3, 3, 3), (16, 32, 64))),
        ("resnet18", PHOTOS, 11_173_962),
        ("resnet18", PHOTOS, resnet_size(3, 10, (2, 2, 2, 2), (64, 128, 256, 512))),
        ("vit_tiny", PHOTOS, vit_size(4, 3, 10)),
        ("vit_tiny", DIGITS, vit_size(1, 1, 10)),
        ("vit_tiny", (2, 28, 28, 1), vit_size(4, 1, 10, tokens=49)),
    ],
)
def test_parameter_counts(name, shape, size):
    variables = jax.eval_shape(build(name, 10).init, KEY, inputs_of(shape))
    assert count_params(variables) == size


def multiply_adds(model: Model, shape) -> int:
    """Count the multiply-adds of the convolutions and matrix products of one evaluation pass."""
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(model.init, KEY, inputs)
    total = 0
    for equation in jax.make_jaxpr(lambda v, x: model.apply(v, x)[0])(variables, inputs).eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            # The kernel `[..., inputs, outputs]` meets every output position once.
            kernel, outputs = equation.invars[1].aval, equation.outvars[0].aval
            total += outputs.size * kernel.size // kernel.shape[-1]
    return total


def test_the_cnn_costs_2_6_million_multiply_adds():
    layers = 16**2 * 27 * 24 + 8**2 * 9 * 24 * 48 + 8**2 * 9 * 48 * 64 + 1024 * 10
    assert multiply_adds(build("cnn", 10), (1, 32, 32, 3)) == layers == 2_609_152


def test_unknown_names_list_the_choices():
    with refused("model", "resnet50", "mlp, cnn, resnet20, resnet18"):
        build("resnet50", 10)


@pytest.mark.parametrize("shape", [(2, 64), (2, 4, 4, 1)])
def test_convolutions_refuse_other_inputs(shape):
    with refused("model", "cnn", str(list(shape))):
        build("cnn", 10).init(KEY, jnp.zeros(shape))


OWN_MODELS = """
import flax.linen as nn
from flax import nnx
from ltu_jax.models import build

def linen(num_classes): return nn.Dense(num_classes)
def in_nnx(num_classes): return lambda rngs: nnx.Linear(4, num_classes, rngs=rngs)
def model(num_classes): return build("mlp", num_classes)
def number(num_classes): return num_classes
def instance(num_classes): return nnx.Linear(4, num_classes, rngs=nnx.Rngs(0))
constant = 3
"""


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(OWN_MODELS)
    (tmp_path / "lacks_a_package.py").write_text("import no_such_package_anywhere")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize("function", ["linen", "in_nnx", "model"])
def test_own_models_are_named_by_import_path(function):
    model = build(f"own_models:{function}", 7)
    inputs = jnp.ones([3, 4])
    assert model.apply(model.init(KEY, inputs), inputs)[0].shape == (3, 7)


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_such_package.nets:f", "no_such_package.nets"),
        ("lacks_a_package:f", "'no_such_package_anywhere'"),
        ("own_models:absent", "'absent'"),
        ("own_models:constant", "'constant'"),
        ("own_models:number", "int"),
        ("own_models:instance", "Linear"),
    ],
)
def test_own_models_that_cannot_be_used_are_refused(name, value):
    with refused("model", value):
        build(name, 7)
