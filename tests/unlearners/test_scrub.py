"""SCRUB: the authors' runs, the idle first step, the order of passes, and SCRUB+R."""

from functools import cache
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.training.losses import distillation
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.rewind import RewindBatch
from ltu_jax.unlearners.scrub import ScrubBatch, ScrubConfig, learning_rates, plan_steps, scrub
from tests.unlearners.parity import PADDING, Case, net

KEY = jax.random.key(0)


def config_of(meta, **changes):
    return ScrubConfig(
        **{
            "epochs": meta["sgda_epochs"],
            "max_epochs": meta["msteps"],
            "batch_size": meta["batch_size"],
            "learning_rate": meta["sgda_learning_rate"],
            "momentum": meta["sgda_momentum"],
            "weight_decay": meta["sgda_weight_decay"],
            "decay_epochs": tuple(meta["lr_decay_epochs"]),
            "decay_rate": meta["lr_decay_rate"],
            "alpha": meta["alpha"],
            "gamma": meta["gamma"],
            "temperature": meta["kd_T"],
            **changes,
        }
    )


def optimizer_of(case):
    decay, momentum = case.meta["sgda_weight_decay"], case.meta["sgda_momentum"]
    if case.meta["optim"] == "adam":  # torch's: decay joins the gradient
        return optax.chain(optax.add_decayed_weights(decay), optax.adam(case.rates()))
    return torch_sgd(case.rates(), momentum, decay)


def batch_of(case, t, state):
    rows, sets = case["steps/idx"][t], case["steps/set"][t].astype(int)
    joint = (rows + len(case["y_forget"]) * sets)[rows != PADDING]
    minimise = jnp.asarray(bool(case["steps/minimize"][t]))
    epoch = jnp.asarray(int(case["steps/epoch"][t]) - 1)
    return RewindBatch(ScrubBatch(*case.batch(t), state.inner.extra[joint], minimise), epoch)


@cache
def run_reference(name):
    """The case, parameters before and after every step, the losses, and the last state."""
    case = Case(name)
    config = config_of(case.meta, rewind=True)
    method = scrub(
        net(), spec_of(case.data, case.meta["num_classes"]), config, tx=optimizer_of(case)
    )
    assert method.num_steps == case["n_steps"]
    state = method.prepare(KEY, case.variables(), case.data)
    step = jax.jit(method.step)
    trajectory, losses = [state.inner.variables.params], []
    for t in range(case["n_steps"]):
        state, info = step(KEY, state, batch_of(case, t, state))
        trajectory.append(state.inner.variables.params)
        losses.append(float(info["loss"]))
    return case, trajectory, losses, state


@pytest.mark.parametrize("name", ["scrub_sgd", "scrub_adam", "scrub_sgd_bn"])
@pytest.mark.usefixtures("x64")
def test_follows_the_reference(name):
    case, trajectory, losses, state = run_reference(name)
    case.assert_follows(trajectory)
    case.assert_state(state.inner.variables.state, "final")
    obey = case.meta["gamma"] * case["steps/loss_ce"] + case.meta["alpha"] * case["steps/loss_kl"]
    wanted = np.where(case["steps/minimize"], obey, -case["steps/loss_kl"])
    np.testing.assert_allclose(losses, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["scrub_sgd", "scrub_sgd_bn"])
@pytest.mark.usefixtures("x64")
def test_every_epoch_leaves_the_references_model_to_rewind_to(name):
    case, _, _, state = run_reference(name)
    movement = np.abs(case["traj"][-1] - case["traj"][0]).max()
    for epoch in range(case.meta["sgda_epochs"]):
        kept = jax.tree.map(itemgetter(epoch), state.rewind.checkpoints)
        wanted = case.flat(case.variables(f"epoch{epoch + 1}").params)
        case.assert_close(kept.params, wanted, movement)
        case.assert_state(kept.state, f"epoch{epoch + 1}")


@pytest.mark.parametrize("name", ["scrub_sgd", "scrub_adam"])
@pytest.mark.usefixtures("x64")
def test_passes_and_rates_are_the_references(name):
    case = Case(name)
    config = config_of(case.meta)
    steps = plan_steps(config, len(case["y_forget"]), len(case["y_retain"]))
    np.testing.assert_array_equal(steps.epoch + 1, case["steps/epoch"])
    np.testing.assert_array_equal(steps.minimise, case["steps/minimize"])
    rates = jax.vmap(learning_rates(config, steps.epoch))(jnp.arange(case["n_steps"]))
    np.testing.assert_allclose(rates, case["steps/lr"], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_first_step_of_the_reference_is_idle_without_batchnorm_and_real_with_it():
    def first_gradient(name):
        case, trajectory, *_ = run_reference(name)
        before, after = map(case.flat, trajectory[:2])
        gradient = (before - after) / case["steps/lr"][0]
        gradient -= case.meta["sgda_weight_decay"] * before
        np.testing.assert_allclose(gradient, case["grad_first"], rtol=0, atol=1e-9)
        return np.abs(gradient).max()

    assert first_gradient("scrub_sgd") < 1e-9
    assert first_gradient("scrub_sgd_bn") > 1e-6


CLASSES = 3


def linear_init(key, inputs):
    return {"kernel": jax.random.normal(key, (inputs.shape[-1], CLASSES))}


LINEAR = from_functions(linear_init, lambda params, x: x @ params["kernel"], name="linear")


def make_data(num_forget=6, num_retain=9, num_validation=6, labels=None):
    rng = np.random.default_rng(1)

    def part(size):
        own = np.arange(size) % CLASSES if labels is None else np.resize(labels, size)
        return Examples(jnp.asarray(rng.normal(size=(size, 4))), jnp.asarray(own))

    return UnlearnData(part(num_forget), part(num_retain), part(num_validation))


def start(config, data, **kwargs):
    method = scrub(LINEAR, spec_of(data, CLASSES), config, **kwargs)
    variables = LINEAR.init(jax.random.key(3), data.forget.inputs)
    return method, method.prepare(KEY, variables, data)


def forget_kl(state, data):
    logits, _ = LINEAR.apply(state.variables, data.forget.inputs)
    return float(distillation(logits, state.extra[: len(logits)], 1.0).mean())


@pytest.mark.usefixtures("x64")
def test_first_maximising_step_only_decays():
    data = make_data()
    method, state = start(ScrubConfig(learning_rate=0.1, weight_decay=0.01), data)
    teacher = state.extra[: len(data.forget.labels)]
    batch = ScrubBatch(*data.forget, teacher, jnp.asarray(False))
    after, info = jax.jit(method.step)(KEY, state, batch)
    assert abs(float(info["loss"])) < 1e-12
    np.testing.assert_allclose(
        after.variables.params["kernel"],
        (1 - 0.1 * 0.01) * state.variables.params["kernel"],
        rtol=1e-12,
    )


@pytest.mark.usefixtures("x64")
def test_a_moved_student_is_driven_off_in_one_pass_and_called_back_in_the_other():
    data = make_data()
    config = ScrubConfig(alpha=1.0, gamma=0.0, temperature=1.0)
    method, state = start(config, data, tx=optax.sgd(0.05))
    noise = 0.1 * jax.random.normal(KEY, state.variables.params["kernel"].shape)
    state = state._replace(
        variables=Variables({"kernel": state.variables.params["kernel"] + noise}, {})
    )
    teacher = state.extra[: len(data.forget.labels)]
    step = jax.jit(method.step)
    apart, together = (
        step(KEY, state, ScrubBatch(*data.forget, teacher, minimise))[0]
        for minimise in (jnp.asarray(False), jnp.asarray(True))
    )
    assert forget_kl(together, data) < forget_kl(state, data) < forget_kl(apart, data)


def test_a_pass_takes_every_example_of_its_own_set_once():
    data = make_data(num_forget=4, num_retain=6)
    data = data._replace(forget=data.forget._replace(labels=100 + jnp.arange(4)))
    data = data._replace(retain=data.retain._replace(labels=200 + jnp.arange(6)))
    method, state = start(ScrubConfig(epochs=3, max_epochs=2, batch_size=2), data)
    sample = jax.jit(method.sample)
    batches = [sample(KEY, jnp.asarray(t), state, data) for t in range(method.num_steps)]
    seen = np.concatenate([batch.labels for batch in batches])
    passes = np.split(seen, np.cumsum([4, 6, 4, 6]))
    for wanted, got in zip(([100, 4], [200, 6], [100, 4], [200, 6], [200, 6]), passes, strict=True):
        np.testing.assert_array_equal(np.sort(got), wanted[0] + np.arange(wanted[1]))
    for batch in batches:
        whose = data.retain if batch.minimise else data.forget
        rows = np.asarray(batch.labels) % 100
        np.testing.assert_array_equal(batch.inputs, whose.inputs[rows])
        teacher = state.extra[rows + 4 * int(batch.minimise)]
        np.testing.assert_array_equal(batch.teacher, teacher)


@pytest.mark.parametrize("num_forget", [1, 12])
def test_rewinds_with_a_tiny_a_large_and_a_whole_class_forget_set(num_forget):
    data = make_data(num_forget, num_retain=5, num_validation=6)
    data = data._replace(retain=data.retain._replace(labels=1 + data.retain.labels % 2))
    config = ScrubConfig(epochs=3, batch_size=4, learning_rate=0.1, rewind=True)
    method = scrub(LINEAR, spec_of(data, CLASSES), config)
    assert method.invariants.uses_validation
    original = LINEAR.init(KEY, data.forget.inputs)
    unlearned, history = unlearn(method, original, data, key=KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(unlearned))
    assert len(history["loss"]) == method.num_steps
