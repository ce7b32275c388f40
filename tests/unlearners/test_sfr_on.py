"""SFR-on: the authors' run with its importances and masks, torchunlearn's run, and the parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.sfr_on import (
    SFROnBatch,
    SFROnConfig,
    SFROnState,
    clip,
    importance,
    place,
    saliency,
    sfr_on,
    shuffled,
    weighted_loss,
)
from ltu_jax.unlearners.slow_weights import SlowBatch, SlowState
from tests.unlearners.parity import Case, net

NAME = "sfron_official"
LINEAR = from_functions(None, lambda params, x: x @ params["kernel"], name="linear")


def options(case):
    meta = case.meta
    return SFROnConfig(
        batch_size=meta["batch_size"],
        learning_rate=meta["retain_lr"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        forget_every=meta["forget_freq"],
        ascent=meta["forget_alpha"],
        loss_power=meta["lambd"] if meta["unlearn_loss"] == "adaga" else 0.0,
        threshold=meta["th"],
        max_norm=meta["max_norm"],
        slow_rate=meta["ema_beta"],
    )


def importances(case):
    """The importances of forget and retain set, from the batches that the reference looked at."""
    sets = case["mask_stage/set"][:, 0]
    results = []
    for which in (0, 1):
        rows = case["mask_stage/idx"][sets == which]
        examples = case.examples(which, rows[rows >= 0])
        results.append(importance(net(), case.variables(), examples, rows.shape[1]))
    return results


def begin(tx, variables, salient):
    opt_state = tx.init(variables.params)
    return SFROnState(variables, opt_state, salient, jax.random.key(0))


def make_data(num_forget, num_retain=10):
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, 4)), jnp.float32),
                jnp.asarray(rng.integers(0, 3, size), jnp.int32),
            )
            for size in (num_forget, num_retain, 1)
        )
    )


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case(NAME)
    config, num_steps = options(case), int(case["n_steps"])
    tx = config.optimizer(num_steps)
    step = jax.jit(sfr_on(net(), spec_of(case.data, case.meta["num_classes"]), config, tx=tx).step)
    start = case.variables()
    state = SlowState(begin(tx, start, case.tree("mask")), start.params)
    trajectory, norms = [start.params], []
    for t in range(num_steps):
        iteration, is_forget = place(t, config.forget_every)
        assert bool(is_forget) == (case["steps/set"][t, 0] == 0)
        batch = SFROnBatch(case.batch(t), is_forget, iteration / case.meta["n_iters"])
        state, info = step(jax.random.key(0), state, SlowBatch(batch, not is_forget))
        trajectory.append(state.inner.variables.params)
        if is_forget:
            norms.append(info["salient_gradient_norm"])
    case.assert_follows(trajectory)
    case.assert_state(state.inner.variables.state, "final")
    np.testing.assert_allclose(norms, case["clip_norms"], rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_importances_and_masks_are_the_references():
    case = Case(NAME)
    forget, retain = importances(case)
    for ours, name in ((forget, "fisher_forget"), (retain, "fisher_retain")):
        np.testing.assert_allclose(case.flat(ours), case[name], rtol=1e-9, atol=1e-24)
    ours = case.flat(saliency(forget, retain, case.meta["th"]))
    ratio = (case["fisher_forget"] + 1e-15) / (case["fisher_retain"] + 1e-15)
    # Dead units have a ratio of one in either, and no other weight is that near to the threshold.
    clear = (ratio == 1) | (np.abs(ratio - case.meta["th"]) > 1e-9)
    wanted = case.flat(case.tree("mask")).astype(bool)
    assert clear.any()
    np.testing.assert_array_equal(ours[clear], wanted[clear])


@pytest.mark.usefixtures("x64")
def test_rates_are_the_references():
    case = Case(NAME)
    config, num_steps = options(case), int(case["n_steps"])
    tx = config.optimizer(num_steps)
    update_fn = jax.jit(tx.update)
    state, rates = tx.init({"kernel": jnp.ones(1)}), []
    for _ in range(num_steps):
        # One gradient in, none in the buffer: the update is the rate.
        fresh = jax.tree.map(lambda x: jnp.zeros_like(x) if x.ndim else x, state)
        update, state = update_fn({"kernel": jnp.ones(1)}, fresh, {"kernel": jnp.zeros(1)})
        rates.append(-float(update["kernel"][0]))
    np.testing.assert_allclose(rates, case["steps/lr"], rtol=1e-9)


def test_importance_is_the_mean_squared_gradient():
    batch = Examples(jnp.array([[1.0, 2.0]]), jnp.array([1]))
    variables = Variables({"kernel": jnp.zeros((2, 2))}, {})
    # With even odds the gradient is the input times (1/2, -1/2).
    batches = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
    ours = importance(LINEAR, variables, batches, 1)["kernel"]
    np.testing.assert_allclose(ours, [[0.25, 0.25], [1.0, 1.0]], rtol=1e-6)


def test_shuffled_fills_the_last_batch():
    examples = make_data(7).forget
    inputs = np.asarray(shuffled(jax.random.key(0), examples, 3).inputs)
    assert len(inputs) == 9
    np.testing.assert_array_equal(inputs[7:], inputs[:2])
    assert {tuple(row) for row in inputs} == {tuple(row) for row in np.asarray(examples.inputs)}


def test_well_remembered_examples_weigh_most():
    losses = jnp.array([0.01, 1.0])
    gradient = jax.grad(weighted_loss)(losses, 0.5)
    np.testing.assert_allclose(gradient, [10 / 11, 1 / 11], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(weighted_loss)(losses, 0.0), [0.5, 0.5], rtol=1e-6)


def test_clip_is_torchs():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}
    clipped, norm = clip(grads, 1.0)
    assert float(norm) == 5
    np.testing.assert_allclose(clipped["a"], 3 / 5.000001, rtol=1e-6)
    assert float(clip(grads, 6.0)[0]["b"][0, 0]) == 4


def run_one(config, examples, is_forget, salient=True, kernel=None):
    variables = Variables({"kernel": jnp.zeros((4, 3)) if kernel is None else kernel}, {})
    tx = config.optimizer(2)
    state = begin(tx, variables, {"kernel": jnp.full((4, 3), salient)})
    method = sfr_on(LINEAR, spec_of(make_data(2), 3), config, tx=tx)
    batch = SFROnBatch(examples, jnp.asarray(is_forget), jnp.asarray(0.0))
    return jax.jit(method.step)(jax.random.key(0), state, batch)


PLAIN = SFROnConfig(momentum=0.0, weight_decay=0.0, max_norm=1e9, schedule="constant")


def test_ascent_spares_weights_that_are_not_salient_and_descent_does_not():
    examples = make_data(8).forget
    assert not run_one(PLAIN, examples, True, salient=False)[0].variables.params["kernel"].any()
    assert run_one(PLAIN, examples, False, salient=False)[0].variables.params["kernel"].any()


def test_ascent_climbs_by_its_weight():
    examples = make_data(8).forget
    # At even odds all examples weigh alike, so ascent is descent the other way, 25 times as far.
    up, down = (run_one(PLAIN, examples, x)[0].variables.params["kernel"] for x in (True, False))
    np.testing.assert_allclose(up, -25 * down, rtol=1e-4, atol=1e-6)


def test_slow_weights_move_after_a_descent():
    data, start = make_data(3), Variables({"kernel": jnp.zeros((4, 3))}, {})
    method = sfr_on(LINEAR, spec_of(data, 3), SFROnConfig(forget_every=2, slow_rate=0.5))
    state = method.prepare(jax.random.key(0), start, data)
    sample, step = jax.jit(method.sample), jax.jit(method.step)
    for t in range(3):
        batch, before = sample(jax.random.key(0), jnp.asarray(t), state, data), state
        state, _ = step(jax.random.key(0), state, batch)
        params = state.inner.variables.params
        if batch.inner.is_forget:
            np.testing.assert_array_equal(state.slow["kernel"], before.slow["kernel"])
            assert not np.array_equal(state.slow["kernel"], params["kernel"])
        else:
            np.testing.assert_array_equal(state.slow["kernel"], params["kernel"])


def test_a_loss_below_single_precision_does_not_take_all_the_weight():
    inputs = jnp.array([[40.0, 0, 0, 0], [0, 1.0, 0, 0]])
    examples = Examples(inputs, jnp.array([0, 1]))
    _, info = run_one(PLAIN, examples, True, kernel=jnp.eye(4, 3))
    losses = np.array([2 * np.exp(-40.0), np.log1p(2 * np.exp(-1.0))])
    wanted = -25 * np.sum(losses**0.5) / np.sum(losses**-0.5)
    np.testing.assert_allclose(info["loss"], wanted, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("num_forget", [1, 25])
def test_forget_sets_of_any_size(num_forget):
    data = make_data(num_forget)
    config = SFROnConfig(epochs=1, batch_size=4, forget_every=2)
    method = sfr_on(LINEAR, spec_of(data, 3), config)
    assert method.num_steps == 3 + 2
    start = Variables({"kernel": jnp.zeros((4, 3))}, {})
    _, history = unlearn(method, start, data, key=jax.random.key(0))
    assert (history["loss"] < 0).tolist() == [True, False, False, True, False]


def test_sample_takes_the_set_whose_turn_it_is():
    data = make_data(3)
    config = SFROnConfig(epochs=1, batch_size=4, forget_every=2)
    method = sfr_on(LINEAR, spec_of(data, 3), config)
    state = begin(config.optimizer(5), Variables({"kernel": jnp.zeros((4, 3))}, {}), None)
    sample = jax.jit(method.sample)
    for t in range(method.num_steps):
        batch = sample(jax.random.key(0), jnp.asarray(t), state, data)
        pool = np.asarray((data.forget if batch.is_forget else data.retain).inputs)
        assert all((pool == row).all(1).any() for row in np.asarray(batch.examples.inputs))
