"""NegGrad+: the authors' two forms, and the closed forms of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.neggrad_plus import NegGradPlusConfig, RetainForget, neggrad_plus
from tests.unlearners.parity import PADDING, Case, net

LINEAR = from_functions(None, lambda p, x: x @ p["kernel"], name="linear")
PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}


def stored_batch(case, t):
    """The two batches of step `t`."""
    parts = []
    for which, name in ((1, "retain"), (0, "forget")):
        rows = case[f"steps/idx_{name}"][t]
        parts.append(case.examples(which, rows[rows != PADDING]))
    return RetainForget(*parts)


@pytest.mark.parametrize("name", ["neggradplus_loops", "neggradplus_notebook"])
@pytest.mark.usefixtures("x64")
def test_follows_the_reference(name):
    case = Case(name)
    config = NegGradPlusConfig(
        retain_weight=case.meta["alpha"],
        pull=case.meta.get("l2_to_init", 0.0),
        evaluation_mode=name.endswith("notebook"),
    )
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    method = neggrad_plus(net(), spec_of(case.data, case.meta["num_classes"]), config, tx=tx)
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    step = jax.jit(method.step)
    trajectory = [state.variables.params]
    for t in range(case["n_steps"]):
        state, _ = step(jax.random.key(0), state, stored_batch(case, t))
        trajectory.append(state.variables.params)
    case.assert_follows(trajectory)


def small(num_forget=5, num_retain=9):
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, 4)), jnp.float32),
                jnp.asarray(rng.integers(0, 3, size), jnp.int32),
            )
            for size in (num_forget, num_retain, 4)
        )
    )


def mean_gradient(examples):
    """Of cross-entropy at kernel zero, where every class has a third."""
    errors = 1 / 3 - jax.nn.one_hot(examples.labels, 3)
    return examples.inputs.T @ errors / len(examples.labels)


def one_step(method, variables, data):
    """Take one step on all of the two sets."""
    state = method.prepare(jax.random.key(0), variables, data)
    return jax.jit(method.step)(jax.random.key(0), state, RetainForget(data.retain, data.forget))[
        0
    ].variables


@pytest.mark.parametrize("retain_weight", [0.0, 0.7])
def test_a_step_is_the_closed_form_of_a_linear_model(retain_weight):
    data = small()
    config = NegGradPlusConfig(learning_rate=0.5, retain_weight=retain_weight, **PLAIN)
    method = neggrad_plus(LINEAR, spec_of(data, 3), config)
    result = one_step(method, Variables({"kernel": jnp.zeros((4, 3))}, {}), data)
    retain, forget = mean_gradient(data.retain), mean_gradient(data.forget)
    wanted = -0.5 * (retain_weight * retain - (1 - retain_weight) * forget)
    np.testing.assert_allclose(result.params["kernel"], wanted, rtol=1e-5, atol=1e-6)


def test_pull_draws_back_to_the_original_and_not_to_zero():
    data = small()
    blind = from_functions(None, lambda p, x: jnp.zeros((len(x), 3)) + 0 * p["w"].sum(), name="")
    config = NegGradPlusConfig(learning_rate=0.5, retain_weight=0.8, pull=0.3, **PLAIN)
    method = neggrad_plus(blind, spec_of(data, 3), config)
    original = jnp.asarray([2.0, -1.0])
    state = method.prepare(jax.random.key(0), Variables({"w": original}, {}), data)
    step, batch = jax.jit(method.step), RetainForget(data.retain, data.forget)
    away = state._replace(variables=Variables({"w": original + 1}, {}))
    for start, distance in ((state, 0), (away, 1)):
        after, _ = step(jax.random.key(0), start, batch)
        wanted = original + distance * (1 - 0.5 * 0.8 * 0.3)
        np.testing.assert_allclose(after.variables.params["w"], wanted, rtol=1e-6)


@pytest.mark.parametrize("evaluation_mode", [False, True])
def test_statistics_follow_retain_then_forget_or_stay(evaluation_mode):
    def apply(variables, inputs, *, train=False, key=None):
        state = {"seen": 0.5 * variables.state["seen"] + inputs.mean()} if train else None
        return inputs @ variables.params["kernel"], state or variables.state

    data = small()
    config = NegGradPlusConfig(evaluation_mode=evaluation_mode)
    method = neggrad_plus(Model(None, apply, "running"), spec_of(data, 3), config)
    variables = Variables({"kernel": jnp.zeros((4, 3))}, {"seen": jnp.asarray(1.0)})
    result = one_step(method, variables, data)
    followed = 0.5 * (0.5 * 1.0 + data.retain.inputs.mean()) + data.forget.inputs.mean()
    wanted = 1.0 if evaluation_mode else followed
    np.testing.assert_allclose(result.state["seen"], wanted, rtol=1e-5)
    assert method.invariants.preserves_model_state == evaluation_mode


@pytest.mark.parametrize(("num_forget", "num_retain"), [(1, 9), (20, 3)])
def test_batches_cover_sets_of_any_size_evenly(num_forget, num_retain):
    data = small(num_forget, num_retain)
    config = NegGradPlusConfig(epochs=20, batch_size=2, learning_rate=1e-3)
    method = neggrad_plus(LINEAR, spec_of(data, 3), config)
    state = method.prepare(jax.random.key(2), Variables({"kernel": jnp.zeros((4, 3))}, {}), data)
    sample = jax.jit(method.sample)
    batches = [sample(jax.random.key(9), t, state, data) for t in range(method.num_steps)]
    for name, examples in (("forget", data.forget), ("retain", data.retain)):
        seen = np.concatenate([getattr(batch, name).inputs for batch in batches])
        counts = np.unique(seen, axis=0, return_counts=True)[1]
        assert len(counts) == len(examples.labels)
        assert counts.max() - counts.min() <= 1
