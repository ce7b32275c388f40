"""torchunlearn's SFR-on: its run, its mask and its slow weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.unlearners.base import spec_of, toy_problem
from ltu_jax.unlearners.neggrad_plus import RetainForget
from ltu_jax.unlearners.sfr_on_topk import (
    SFROnTopKConfig,
    keep_largest,
    sfr_on_topk,
)
from ltu_jax.unlearners.slow_weights import SlowBatch
from tests.unlearners.parity import Case, net

LINEAR = from_functions(None, lambda params, x: x @ params["kernel"], name="linear")


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("tul_sfron")
    meta = case.meta
    config = SFROnTopKConfig(
        learning_rate=meta["lr"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        schedule="constant",
        retain_weight=meta["retain_lambda"],
        forget_weight=meta["forget_lambda"],
        saliency=meta["saliency_ratio"],
        slow_rate=meta["slow_alpha"],
        slow_every=meta["slow_every"],
    )
    method = sfr_on_topk(net(), spec_of(case.data, meta["num_classes"]), config)
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    step = jax.jit(method.step)
    trajectory = [state.inner.variables.params]
    for t in range(case["n_steps"]):
        rows = [case[f"steps/idx_{name}"][t] for name in ("retain", "forget")]
        retain, forget = (case.examples(w, r[r >= 0]) for w, r in zip((1, 0), rows, strict=True))
        moves = (t + 1) % meta["slow_every"] == 0
        batch = SlowBatch(RetainForget(retain, forget), moves)
        state, _ = step(jax.random.key(0), state, batch)
        trajectory.append(state.inner.variables.params)
    case.assert_follows(trajectory)
    case.assert_state(state.inner.variables.state, "final")
    movement = np.abs(case["traj"][-1] - case["traj"][0]).max()
    case.assert_close(state.slow, case["slow_weights"], movement)


def test_the_largest_gradients_are_kept_over_all_arrays():
    grads = {"a": jnp.array([1.0, -5.0, 2.0]), "b": jnp.array([[4.0, -3.0]])}
    kept = keep_largest(grads, 0.5)  # int(2.5) of 5
    assert kept["a"].tolist() == [0, -5, 0]
    assert kept["b"].tolist() == [[4, 0]]
    assert keep_largest(grads, 1.0)["a"].tolist() == grads["a"].tolist()
    assert keep_largest(grads, 1e-6)["a"].tolist() == [0, -5, 0]


def test_slow_weights_move_every_few_steps():
    model, variables, data, spec = toy_problem()
    method = sfr_on_topk(model, spec, SFROnTopKConfig(slow_every=2))
    state = method.prepare(jax.random.key(0), variables, data)
    batches = [method.sample(jax.random.key(0), jnp.asarray(t), state, data) for t in range(5)]
    assert [bool(batch.moves) for batch in batches] == [False, True, False, True, False]
