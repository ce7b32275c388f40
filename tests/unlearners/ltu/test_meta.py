"""The meta-gradient: closed form, finite differences, its definition, and reference numbers."""

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.unlearners.ltu.meta import (
    InnerStep,
    meta_gradient,
    meta_objective,
    partial_meta_gradient,
)
from tests.unlearners.parity import read_case


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def quadratic(seed, size=5):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    hessian, linear = root @ root.T, rng.normal(size=size)
    return (lambda x: 0.5 * x @ hessian @ x + linear @ x), hessian, linear


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("tune_weight", [0.0, 0.3, 1.0])
def test_closed_form_on_quadratics(count, tune_weight):
    tune, a, b = quadratic(0)
    queries = [quadratic(seed) for seed in (1, 2)]
    x, alpha = np.random.default_rng(3).normal(size=5), 0.05
    shrink, adapted = np.eye(5), x
    for _ in range(count):
        adapted = adapted - alpha * (a @ adapted + b)
        shrink = shrink @ (np.eye(5) - alpha * a)
    query_gradient = np.mean([c @ adapted + d for _, c, d in queries], axis=0)
    wanted = shrink @ query_gradient + tune_weight * (a @ x + b)

    gradient, info = meta_gradient(
        tune,
        lambda p: jnp.stack([q(p) for q, _, _ in queries]),
        jnp.asarray(x),
        InnerStep(lr=alpha, count=count, tune_weight=tune_weight),
    )

    np.testing.assert_allclose(gradient, wanted, rtol=1e-12)
    np.testing.assert_allclose(info.query_losses, [q(adapted) for q, _, _ in queries], rtol=1e-12)
    np.testing.assert_allclose(info.tune_norm, np.linalg.norm(a @ x + b), rtol=1e-12)


def net(seed=0):
    rng = np.random.default_rng(seed)
    params = {"in": jnp.asarray(rng.normal(size=(3, 4))), "out": jnp.asarray(rng.normal(size=4))}
    inputs, targets = jnp.asarray(rng.normal(size=(4, 6, 3))), jnp.asarray(rng.normal(size=(4, 6)))

    def losses(params, rows):
        outputs = jnp.tanh(inputs[rows] @ params["in"]) @ params["out"]
        return jnp.mean((outputs - targets[rows]) ** 2, axis=-1)

    return params, lambda p: losses(p, 0), lambda p: losses(p, jnp.arange(1, 4))


def test_finite_differences_of_the_objective():
    params, tune, queries = net()
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    inner = InnerStep(lr=0.1, tune_weight=0.7)

    @jax.jit
    def objective(flat):
        return meta_objective(tune, queries, unravel(flat), inner)

    chex.assert_numerical_grads(objective, (flat,), order=2, atol=1e-6)
    gradient, _ = meta_gradient(tune, queries, params, inner)
    for row in range(flat.size):
        nudge = 1e-5 * jnp.zeros_like(flat).at[row].set(1.0)
        slope = (objective(flat + nudge) - objective(flat - nudge)) / 2e-5
        got = jax.flatten_util.ravel_pytree(gradient)[0][row]
        np.testing.assert_allclose(got, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("max_norm", [float("inf"), 0.5, 1e6])
def test_fast_form_is_the_grad_of_a_grad(order, count, max_norm):
    params, tune, queries = net()
    inner = InnerStep(lr=0.1, max_norm=max_norm, count=count, order=order, tune_weight=0.7)
    wanted = jax.grad(lambda p: meta_objective(tune, queries, p, inner))(params)
    for compiled in (False, True):
        run = lambda p: meta_gradient(tune, queries, p, inner)[0]  # noqa: E731
        chex.assert_trees_all_close((jax.jit(run) if compiled else run)(params), wanted, rtol=1e-10)


def test_first_order_differs_from_second():
    params, tune, queries = net()
    first, second = (
        meta_gradient(tune, queries, params, InnerStep(lr=0.1, order=order))[0] for order in (1, 2)
    )
    assert float(jnp.max(jnp.abs(first["in"] - second["in"]))) > 1e-3


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_inner_steps_on_all_leaves_are_those_of_the_meta_gradient(order, count):
    params, tune, queries = net()
    inner = InnerStep(lr=0.1, max_norm=0.5, count=count, order=order, tune_weight=0.7)
    moved = {"in": True, "out": True}
    gradient, info = partial_meta_gradient(tune, queries, params, inner, moved)
    wanted, wanted_info = meta_gradient(tune, queries, params, inner)
    chex.assert_trees_all_close((gradient, info), (wanted, wanted_info), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 2])
def test_inner_steps_on_one_leaf_by_finite_differences(count):
    params, tune, queries = net()
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    inner = InnerStep(lr=0.1, tune_weight=0.7, count=count)

    def objective(flat):
        whole = unravel(flat)
        moved = whole["out"]
        for _ in range(count):
            moved = moved - 0.1 * jax.grad(lambda out: tune(whole | {"out": out}))(moved)
        return 0.7 * tune(whole) + queries(whole | {"out": moved}).mean()

    found, _ = partial_meta_gradient(tune, queries, params, inner, {"in": False, "out": True})
    got = jax.flatten_util.ravel_pytree(found)[0]
    for row in range(flat.size):
        nudge = 1e-5 * jnp.zeros_like(flat).at[row].set(1.0)
        slope = (objective(flat + nudge) - objective(flat - nudge)) / 2e-5
        np.testing.assert_allclose(got[row], slope, rtol=1e-6, atol=1e-9)


def test_clipped_inner_step_moves_by_at_most_lr_times_the_norm():
    gradient, _ = meta_gradient(
        lambda x: 1e6 * jnp.sum(x), lambda x: x, jnp.zeros(4), InnerStep(lr=0.1, max_norm=0.5)
    )
    chex.assert_tree_all_finite(gradient)
    _, info = meta_gradient(
        lambda x: 1e6 * jnp.sum(x), lambda x: x, jnp.zeros(4), InnerStep(lr=0.1, max_norm=0.5)
    )
    np.testing.assert_allclose(jnp.linalg.norm(info.query_losses), 0.1 * 0.5, rtol=1e-12)


def parity_network(flat, shapes, inputs):
    """Two tanh convolutions with average pooling and a linear layer, in torch's layout."""
    parts, start = [], 0
    for shape in shapes:
        parts.append(flat[start : start + int(np.prod(shape))].reshape(shape))
        start += int(np.prod(shape))
    w1, b1, w2, b2, w3, b3 = parts
    for weight, bias in ((w1, b1), (w2, b2)):
        inputs = jax.lax.conv_general_dilated(inputs, weight, (1, 1), "SAME")
        inputs = jnp.tanh(inputs + bias[:, None, None])
        batch, channels, height, width = inputs.shape
        inputs = inputs.reshape(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5))
    return inputs.reshape(len(inputs), -1) @ w3.T + b3


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_parity_with_torch(count, order):
    case, meta = read_case("meta")
    alpha = meta["alpha"]
    shapes = [case[f"init/{name}"].shape for name in case["param_names"]]

    def cross_entropy(params, inputs, labels):
        log_p = jax.nn.log_softmax(parity_network(params, shapes, jnp.asarray(inputs) / 255.0))
        return -jnp.mean(jnp.take_along_axis(log_p, jnp.asarray(labels)[:, None], 1))

    forget, retain = case["tune_idx_forget"], case["query_idx_retain"]
    gradient, info = meta_gradient(
        lambda p: cross_entropy(p, case["x_forget"][forget], case["y_forget"][forget]),
        lambda p: jnp.stack(
            [cross_entropy(p, case["x_retain"][rows], case["y_retain"][rows]) for rows in retain]
        ),
        jnp.asarray(case["theta"]),
        InnerStep(lr=alpha, count=count, order=1 if order == "first_order" else 2),
    )

    np.testing.assert_allclose(info.tune_loss, case["loss_tune"], rtol=1e-9)
    np.testing.assert_allclose(info.query_losses, case[f"K{count}_query_losses"], rtol=1e-9)
    scale = np.abs(case[f"K{count}_{order}"]).max()
    assert np.abs(gradient - case[f"K{count}_{order}"]).max() <= 1e-9 * scale
