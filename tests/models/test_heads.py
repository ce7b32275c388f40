"""One-logit heads as two-logit heads, and parameters from safetensors files."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from ltu_jax.models import binary_head, from_functions, load_safetensors
from tests.refusals import refused

KEY = jax.random.key(0)
X = jax.random.normal(KEY, [6, 3])


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_two_logits_have_the_probability_loss_and_gradient_of_one(shape):
    one = from_functions(
        lambda key, x: {"w": jnp.arange(3.0)}, lambda p, x: (x @ p["w"]).reshape(shape), name="one"
    )
    two = binary_head(one)
    variables = two.init(KEY, X)
    logits, _ = two.apply(variables, X)
    z = X @ variables.params["w"]
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], jax.nn.sigmoid(z), rtol=1e-6)

    labels = jnp.arange(6) % 2

    def loss_of_two(params):
        logits, _ = two.apply(variables._replace(params=params), X)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def loss_of_one(params):
        return optax.sigmoid_binary_cross_entropy(X @ params["w"], labels).mean()

    both = [jax.value_and_grad(loss)(variables.params) for loss in (loss_of_two, loss_of_one)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *both)


def test_a_head_keeps_state_and_name_and_refuses_other_heads():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            return nn.Dense(1)(nn.BatchNorm(use_running_average=not train)(x))

    model = binary_head(Net())
    variables = model.init(KEY, X)
    _, state = model.apply(variables, X, train=True)
    assert not np.allclose(*map(jax.tree.leaves, (state, variables.state)))
    assert model.name == "Net"
    three = binary_head(nn.Dense(3))
    with refused("model", "Dense", "[6, 3]"):
        three.apply(three.init(KEY, X), X)


def test_a_file_of_tensors_becomes_parameters(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {"net.out.weight": weight, "net/out/bias": np.zeros(2, np.float32), "step": weight[0]}
    save_file(arrays, tmp_path / "net.safetensors")
    as_is = load_safetensors(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(as_is["net"]["out"]["weight"], weight)
    assert as_is["net"]["out"]["bias"].shape == (2,)

    def from_torch(name, array):
        if name == "step":
            return None
        if name.endswith("weight"):
            name, array = name.replace("weight", "kernel"), array.T
        return name[len("net.") :], array

    params = load_safetensors(tmp_path / "net.safetensors", from_torch)
    np.testing.assert_allclose(nn.Dense(2).apply({"params": params["out"]}, X), X @ weight.T)
    assert set(params) == {"out"}


def test_damaged_or_ambiguous_files_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name in ("gone", "broken"):
        with refused("path", f"{name}.safetensors"):
            load_safetensors(tmp_path / f"{name}.safetensors")
    save_file({"a": np.ones(1), "a.b": np.ones(1)}, tmp_path / "both.safetensors")
    with refused("path", "a.b"):
        load_safetensors(tmp_path / "both.safetensors")
