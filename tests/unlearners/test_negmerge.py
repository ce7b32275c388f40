"""NegMerge: torchunlearn's candidates, mergers and choice, and the rule of consensus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.models import from_functions
from ltu_jax.training.loop import as_step, unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.negmerge import (
    NegMergeBatch,
    NegMergeConfig,
    groups,
    merge,
    negate,
    negmerge,
)
from tests.unlearners.parity import TOLERANCE, Case, net

LINEAR = from_functions(None, lambda params, x: x @ params["kernel"], name="linear")


def options(case):
    meta = case.meta
    return NegMergeConfig(
        learning_rates=tuple(meta["lrs"]),
        repeats=meta["repeats"],
        epochs=meta["epochs"],
        batch_size=meta["batch_size"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        scale=meta["scaling"],
        consensus=meta["consensus_ratio"],
        aggregate=meta["aggregation"],
        grouping="learning_rate",
    )


def assert_follows(case, ours, wanted):
    movement = np.abs(wanted - case["traj"][0]).max(1, keepdims=True)
    assert (np.abs(ours - wanted) <= TOLERANCE * movement).all()


def stacked(case, flat):
    """Stored flat vectors `[K, P]` as candidates."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(case.from_flat, flat))


@pytest.mark.usefixtures("x64")
def test_candidates_and_choice_follow_the_reference():
    case = Case("tul_negmerge")
    method = negmerge(net(), spec_of(case.data, case.meta["num_classes"]), options(case))
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    step = jax.jit(method.step)
    batches = case["steps/idx_forget"]
    assert method.num_steps == len(batches)
    for t, rows in enumerate(batches):
        batch = NegMergeBatch(*case.examples(0, rows[rows >= 0]), jnp.asarray(t))
        state, _ = step(jax.random.key(0), state, batch)
    ours = np.stack(
        [case.flat(jax.tree.map(lambda x: x[0], g)) for g in groups(state.candidates, 1)]
    )
    assert_follows(case, ours, case["candidates"])
    result = method.finish(state)
    assert_follows(case, case.flat(result.params)[None], case["traj"][-1:])
    case.assert_state(result.state, "init")


@pytest.mark.usefixtures("x64")
def test_mergers_are_the_references():
    case = Case("tul_negmerge")
    config = options(case)
    candidates = groups(stacked(case, case["candidates"]), config.repeats)
    assert len(candidates) == len(case["merged"])
    original = case.variables().params
    subtract = jax.jit(lambda group: negate(config, original, group))
    ours = np.stack([case.flat(subtract(group)) for group in candidates])
    assert_follows(case, ours, case["merged"])


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_full_consensus_keeps_what_all_agree_on(rows):
    vectors = np.asarray(rows, np.float32)
    mean = jax.jit(merge, static_argnums=(1, 2))
    agree = np.all(vectors > 0, axis=0) | np.all(vectors < 0, axis=0)
    merged = np.asarray(mean(vectors, 1.0, "mean"))
    np.testing.assert_array_equal(merged[~agree], 0)
    np.testing.assert_allclose(
        merged[agree], np.mean(vectors, axis=0)[agree], rtol=1e-5, atol=1e-30
    )
    np.testing.assert_allclose(mean(-vectors, 1.0, "mean"), -merged, rtol=1e-5, atol=1e-30)


def test_part_of_the_candidates_may_be_enough():
    vectors = jnp.array([[1.0, 1.0, -1.0], [2.0, 1.0, -2.0], [-1.0, -9.0, -3.0]])
    assert merge(vectors, 1.0, "sum").tolist() == [0, 0, -6]
    # Two of three go up in the second, but the sum goes down.
    assert merge(vectors, 0.6, "sum").tolist() == [2, 0, -6]
    assert merge(vectors, 0.6, "median").tolist() == [1, 1, -2]
    # Of an even number the lower middle.
    assert merge(jnp.array([[1.0], [2.0], [3.0], [4.0]]), 1.0, "median").tolist() == [2]


def test_consensus_is_rounded_up_but_not_by_rounding_errors():
    vectors = jnp.array([[1.0]] * 7 + [[-1.0]] * 3)
    assert merge(vectors, 0.7, "sum").tolist() == [4]  # 10 * 0.7 > 7 in floating point
    assert merge(vectors, 0.75, "sum").tolist() == [0]


def make_data(num_forget):
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(jnp.asarray(rng.normal(size=(n, 4)), jnp.float32), jnp.arange(n) % 3)
            for n in (num_forget, 6, 1)
        )
    )


@pytest.mark.parametrize("num_forget", [1, 9])
def test_forget_loss_rises(num_forget):
    data = make_data(num_forget)
    config = NegMergeConfig(learning_rates=(0.1, 0.2), repeats=2, epochs=3, batch_size=4)
    start = Variables({"kernel": jnp.zeros((4, 3))}, {})
    method = negmerge(LINEAR, spec_of(data, 3), config)
    result, history = unlearn(method, start, data, key=jax.random.key(0))
    # Every candidate starts afresh, at even odds.
    per_candidate = method.num_steps // 4
    np.testing.assert_allclose(history["loss"][::per_candidate], np.log(3), rtol=1e-5)
    logits = data.forget.inputs @ result.params["kernel"]
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), data.forget.labels[:, None], 1)
    assert -own.mean() > np.log(3)


def test_groupings():
    data = make_data(9)
    start = Variables({"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))}, {})
    shared = {"learning_rates": (0.01, 1.0), "repeats": 2, "epochs": 3, "scale": 1.0}

    method = negmerge(LINEAR, spec_of(data, 3), NegMergeConfig(**shared, grouping="learning_rate"))
    state = method.prepare(jax.random.key(0), start, data)
    step = jax.jit(as_step(method))
    for t in range(method.num_steps):
        state, _ = step(jax.random.key(0), t, state, data)

    together = negmerge(LINEAR, spec_of(data, 3), NegMergeConfig(**shared))
    assert together.prepare(jax.random.key(0), start, data).scored is None
    np.testing.assert_allclose(
        together.finish(state).params["kernel"],
        negate(NegMergeConfig(**shared), start.params, state.candidates)["kernel"],
        rtol=1e-6,
    )
    small, large = (
        negate(NegMergeConfig(**shared), start.params, group)["kernel"]
        for group in groups(state.candidates, 2)
    )

    def preference(kernel):
        hits = [
            jnp.mean((one.inputs @ kernel).argmax(-1) == one.labels)
            for one in (data.forget, data.retain)
        ]
        return hits[1] - hits[0]

    best = large if preference(large) > preference(small) else small
    assert preference(large) != preference(small)
    np.testing.assert_allclose(method.finish(state).params["kernel"], best, rtol=1e-6)
