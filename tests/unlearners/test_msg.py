"""Masked small gradients: what is chosen, what is redrawn, what trains how fast."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import build, from_functions
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.msg import MSGConfig, draw_kernel, gradient_gap, msg, smallest

CLASSES = 3


def init(key, inputs):
    conv_key, head_key = jax.random.split(key)
    return {
        "conv": jax.random.normal(conv_key, (2, 2, 1, 5)),
        "head": jax.random.normal(head_key, (5, CLASSES)),
        "bias": jnp.zeros(CLASSES),
    }


def apply(params, inputs):
    """A convolution over images of 2 x 2 pixels, which has one place to be."""
    hidden = inputs.reshape(len(inputs), 4) @ params["conv"].reshape(4, 5)
    return jnp.tanh(hidden) @ params["head"] + params["bias"]


NET = from_functions(init, apply, name="net")


def examples(size, seed):
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.normal(size=(size, 2, 2, 1)))
    return Examples(inputs, jnp.asarray(np.arange(size) % CLASSES))


DATA = UnlearnData(examples(7, 0), examples(20, 1), examples(4, 2))
ORIGINAL = NET.init(jax.random.key(0), DATA.retain.inputs)


@jax.jit
def mean_gradient(examples, params):
    def loss(params):
        logits = apply(params, examples.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels).mean()

    return jax.grad(loss)(params)


def prepared(config, key=3, **options):
    method = msg(NET, spec_of(DATA, CLASSES), config, **options)
    return method, method.prepare(jax.random.key(key), ORIGINAL, DATA)


@pytest.mark.parametrize("num_forget", [1, 30])
@pytest.mark.usefixtures("x64")
def test_gap_is_retain_minus_forget_gradient(num_forget):
    data = DATA._replace(forget=examples(num_forget, 5))
    key = jax.random.key(1)
    gap = gradient_gap(key, NET, ORIGINAL, data)
    rows = jax.random.permutation(key, 20)[:num_forget]
    retain = jax.tree.map(lambda x: x[rows], data.retain)
    for name in ORIGINAL.params:
        parts = [mean_gradient(part, ORIGINAL.params)[name] for part in (retain, data.forget)]
        np.testing.assert_allclose(gap[name], parts[0] - parts[1], rtol=1e-6, atol=1e-7)


def test_smallest_is_taken_within_each_convolution():
    rng = np.random.default_rng(0)
    gap = {name: rng.normal(size=(3, 3, 2, 4)) * scale for name, scale in (("a", 1), ("b", 100))}
    chosen = smallest({**gap, "dense": jnp.ones((4, 4))}, 0.3)
    for name, values in gap.items():
        inside, outside = np.abs(values)[chosen[name]], np.abs(values)[~chosen[name]]
        assert len(inside) == round(0.3 * values.size)
        assert inside.max() < outside.min()
    assert not chosen["dense"]


def test_only_chosen_weights_are_redrawn():
    _, state = prepared(MSGConfig(reset=0.4))
    drawn = np.array(state.variables.params["conv"] != ORIGINAL.params["conv"])
    assert drawn.sum() == 8  # 0.4 of 20
    np.testing.assert_allclose(state.extra["conv"], np.where(drawn, 1.0, 0.1))
    for name in ("head", "bias"):
        np.testing.assert_array_equal(state.variables.params[name], ORIGINAL.params[name])
        assert state.extra[name] == 1
    _, other = prepared(MSGConfig(reset=0.4), key=4)
    assert not np.array_equal(other.variables.params["conv"], state.variables.params["conv"])


def test_fresh_weights_are_normal_with_the_fan_out():
    weights = np.array(draw_kernel(jax.random.key(0), (3, 3, 40, 200), jnp.float32))
    np.testing.assert_allclose(weights.std(), np.sqrt(2 / (9 * 200)), rtol=0.02)
    assert np.abs(weights).max() > 3.5 * weights.std()  # not truncated


@pytest.mark.usefixtures("x64")
def test_a_step_scales_the_gradient_but_not_the_decay():
    tx = optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.5))
    method, state = prepared(MSGConfig(kept_gradient=0.3), tx=tx)
    batch = method.sample(jax.random.key(0), 0, state, DATA)
    after, _ = jax.jit(method.step)(jax.random.key(0), state, batch)
    before = state.variables.params
    grads = mean_gradient(batch, before)
    for name, old in before.items():
        wanted = old - 0.5 * (state.extra[name] * grads[name] + 0.2 * old)
        np.testing.assert_allclose(after.variables.params[name], wanted, rtol=1e-6, atol=1e-8)


def test_learning_rate_climbs_then_falls():
    config = MSGConfig(learning_rate=0.8, momentum=0.0, weight_decay=0.0)
    tx, rates = config.optimizer(6), []
    state = tx.init(jnp.zeros(()))
    for _ in range(6):
        update, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 0.6, 0.2], rtol=1e-5)


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(InputError, match="mlp") as refused:
        msg(build("mlp", num_classes=CLASSES), spec_of(DATA, CLASSES))
    assert refused.value.argument == "method"
