"""Convolutions as matrix products are `lax.conv_general_dilated`, under every transformation."""

from contextlib import nullcontext

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import Conv, convolution
from ltu_jax.models.convolution import conv, countable, differentiated_twice


def operands(batch=4, height=9, width=7, channels=3, features=5, size=(3, 3), dtype=None):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(batch, height, width, channels))
    kernel = rng.normal(size=(*size, channels, features))
    return jnp.asarray(inputs, dtype), jnp.asarray(kernel, dtype)


def products(inputs, kernel, *args):
    return conv(inputs, kernel, *args, as_products=True)


def reference(inputs, kernel, *args):
    return conv(inputs, kernel, *args, as_products=False)


def check_close(actual, expected, tolerance=1e-12):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(scale, 1))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def blocks_of_two(monkeypatch):
    monkeypatch.setattr(convolution, "_BLOCK_VALUES", 2 * 11 * 9 * 3)


@pytest.mark.parametrize("large_image", [1, 99])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 3)])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 5)])
def test_values_and_gradients_are_those_of_lax(
    x64, monkeypatch, large_image, padding, strides, size
):
    monkeypatch.setattr(convolution, "_LARGE_IMAGE", large_image)
    arrays = operands(size=size)

    @jax.jit
    def both(*arrays):
        results = []
        for form in (products, reference):
            output, pull_back = jax.vjp(lambda *a, form=form: form(*a, strides, padding), *arrays)
            cotangent = jnp.cos(jnp.arange(output.size, dtype=float)).reshape(output.shape)
            results.append((output, pull_back(cotangent)))
        return results

    check_close(*both(*arrays))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_keeps_the_precision_of_its_operands(dtype, tolerance):
    arrays = operands(channels=64, dtype=dtype)
    actual = products(*arrays)
    assert actual.dtype == dtype
    check_close(actual.astype(float), reference(*arrays).astype(float), tolerance)


def loss(form):
    return lambda inputs, kernel: jnp.sum(jnp.tanh(form(jnp.tanh(form(inputs, kernel)), kernel)))


def hessian_product(form, inputs, kernel):
    def value_and_gradient(k):
        return jax.value_and_grad(loss(form), argnums=1)(inputs, k)

    return jax.linearize(value_and_gradient, kernel)[1](jnp.ones_like(kernel))


def gradient_of_gradient(form, inputs, kernel):
    def squared_norm(k):
        return jnp.sum(jax.grad(loss(form), argnums=1)(inputs, k) ** 2)

    return jax.grad(squared_norm)(kernel)


TRANSFORMED = {
    "hessian product": hessian_product,
    "gradient of gradient": gradient_of_gradient,
    "jvp": lambda form, x, k: jax.jvp(lambda k: form(x, k), (k,), (k,)),
    "checkpoint": lambda form, x, k: jax.grad(jax.checkpoint(loss(form)), (0, 1))(x, k),
    "vmap over inputs": lambda form, x, k: jax.vmap(form, (0, None))(jnp.stack([x, 2 * x]), k),
    "vmap over kernels": lambda form, x, k: jax.vmap(jax.grad(loss(form), argnums=1), (None, 0))(
        x, jnp.stack([k, -k])
    ),
    "scan": lambda form, x, k: jax.lax.scan(
        lambda k, _: (k - 0.01 * jax.grad(loss(form), argnums=1)(x, k), None), k, length=3
    )[0],
}


@pytest.mark.parametrize("large_image", [1, 99])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_every_transformation_applies(x64, blocks_of_two, monkeypatch, name, large_image):
    monkeypatch.setattr(convolution, "_LARGE_IMAGE", large_image)
    arrays = operands(features=3)
    actual, expected = (
        jax.jit(TRANSFORMED[name], static_argnums=0)(form, *arrays)
        for form in (products, reference)
    )
    check_close(actual, expected)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_blocks_leave_no_image_out(x64, blocks_of_two, batch):
    arrays = operands(batch=batch)
    check_close(products(*arrays), reference(*arrays))


def test_products_are_not_for_several_devices(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    arrays = operands(height=32, width=32, channels=64)
    assert "conv_general_dilated" in str(jax.make_jaxpr(lambda *a: conv(*a))(*arrays))


@pytest.mark.parametrize(
    ("backend", "side", "channels", "context", "chosen"),
    [
        ("cpu", 8, 16, nullcontext, True),
        ("cpu", 32, 3, nullcontext, False),
        ("gpu", 32, 64, nullcontext, False),
        ("cpu", 32, 64, differentiated_twice, True),
        ("cpu", 32, 48, differentiated_twice, False),
        ("cpu", 8, 64, differentiated_twice, False),
        ("cpu", 32, 64, countable, False),
    ],
)
def test_products_are_for_many_channels_on_a_cpu(
    monkeypatch, backend, side, channels, context, chosen
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    arrays = operands(height=side, width=side, channels=channels)
    with context(), differentiated_twice() if context is countable else nullcontext():
        program = str(jax.make_jaxpr(lambda *a: conv(*a))(*arrays))  # traces are kept
    assert ("conv_general_dilated" not in program) == chosen


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "padding": "VALID"},
        {"padding": "CIRCULAR"},
        {"kernel_dilation": 2},
        {"feature_group_count": 2},
        {"use_bias": False},
    ],
)
def test_module_is_the_one_of_flax(options):
    images = operands(1, 16, 16, channels=64)[0]

    class Network(nn.Module):
        layer: type

        @nn.compact
        def __call__(self, inputs):
            return self.layer(4, (3, 3), **options)(inputs)

    key = jax.random.key(0)
    actual, variables = Network(Conv).init_with_output(key, images)
    expected, flax_variables = Network(nn.Conv).init_with_output(key, images)
    assert list(variables["params"]) == ["Conv_0"]
    jax.tree.map(np.testing.assert_array_equal, variables, flax_variables)
    check_close(actual, expected, 1e-5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"kernel \[kh, kw, C, D\], got shapes"):
        conv(jnp.ones([1, 8, 8, 3]), jnp.ones([3, 3, 4, 5]))
