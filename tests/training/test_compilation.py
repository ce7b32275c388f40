"""Compiler options are used only where the compiler has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training import compilation as compiling
from ltu_jax.training.compilation import compiler_options, jit


@pytest.fixture(autouse=True)
def asked_anew():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


def convolve(images, kernel):
    images = jax.lax.conv(images, kernel, (1, 1), "SAME")
    return images.reshape(len(images), -1) @ jnp.ones((images[0].size, 8))


ARRAYS = jnp.ones((8, 16, 16, 16)), jnp.ones((16, 16, 3, 3))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for CPUs")
def test_programs_do_not_use_the_slow_library():
    assert "ynn_fusion" not in jit(convolve).lower(*ARRAYS).compile().as_text()


def test_results_equal_jax_jit_and_options_are_passed():
    same = jit(lambda images, double: (1 + double) * convolve(*images), static_argnums=1)
    np.testing.assert_allclose(same(ARRAYS, True), 2 * jax.jit(convolve)(*ARRAYS), rtol=1e-5)


def test_inner_programs_have_no_options():
    def outer(*arrays):
        return jit(convolve)(*arrays)

    for trace in (jax.jit, jit):
        np.testing.assert_allclose(trace(outer)(*ARRAYS), jit(convolve)(*ARRAYS), rtol=1e-5)
    assert jax.eval_shape(lambda: jit(convolve)(*ARRAYS)).shape == (8, 8)


def test_unknown_options_are_not_passed(monkeypatch):
    monkeypatch.setattr(compiling, "CPU_OPTIONS", {"xla_no_such_option": ""})
    assert compiler_options() is None
    assert jit(lambda x: x + 1)(1) == 2


def test_accelerators_have_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() is None
