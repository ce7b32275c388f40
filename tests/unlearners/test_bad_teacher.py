"""Bad teacher: the authors' run, and which examples learn from which teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.bad_teacher import BadTeacherBatch, BadTeacherConfig, bad_teacher
from ltu_jax.unlearners.base import spec_of
from tests.unlearners.parity import PADDING, Case, net

KEY = jax.random.key(0)


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("ssd_badteacher")
    config = BadTeacherConfig(temperature=case.meta["KL_temperature"])
    # The released code averages KL's terms over batch and classes, without the squared temperature.
    scale = 1 / (case.meta["num_classes"] * case.meta["KL_temperature"] ** 2)
    tx = optax.chain(optax.scale(scale), optax.adam(case.rates()))
    method = bad_teacher(
        taught_by(case), spec_of(case.data, case.meta["num_classes"]), config, tx=tx
    )
    state = method.prepare(KEY, case.variables(), case.data)
    targets = np.zeros_like(state.extra.teacher)
    targets[state.extra.rows] = state.extra.teacher
    step = jax.jit(method.step)
    trajectory, losses = [state.variables.params], []
    for t in range(case["n_steps"]):
        rows, sets = case["steps/idx"][t], case["steps/set"][t].astype(int)
        joint = (rows + len(case["y_forget"]) * sets)[rows != PADDING]
        batch = BadTeacherBatch(case.batch(t).inputs, jnp.asarray(targets[joint]))
        state, info = step(KEY, state, batch)
        trajectory.append(state.variables.params)
        losses.append(scale * info["loss"])
    case.assert_follows(trajectory)
    case.assert_state(state.variables.state, "final")
    np.testing.assert_allclose(losses, case["steps/loss"], rtol=1e-9)


def taught_by(case):
    """The reference's network, whose fresh weights are the reference's bad teacher."""
    return net()._replace(init=lambda key, inputs: case.variables("bad_teacher"))


def test_as_many_retain_examples_take_part_as_in_the_reference():
    case = Case("ssd_badteacher")
    config = BadTeacherConfig(
        epochs=case.meta["epochs"],
        batch_size=case.meta["batch_size"],
        retain_share=case.meta["retain_fraction"],
    )
    method = bad_teacher(taught_by(case), spec_of(case.data, case.meta["num_classes"]), config)
    assert method.num_steps == case["n_steps"]
    state = method.prepare(KEY, case.variables(), case.data)
    assert len(state.extra.rows) == len(case["y_forget"]) + len(case["retain_subset"])


CLASSES = 3
LINEAR = from_functions(
    lambda key, inputs: {"kernel": jax.random.normal(key, (inputs.shape[-1], CLASSES))},
    lambda params, x: x @ params["kernel"],
    name="linear",
)


def make_data(num_forget=2, num_retain=4):
    """Inputs are rows of the identity, so that what one example learns leaves the others alone."""
    inputs = jnp.eye(num_forget + num_retain)
    labels = jnp.arange(num_forget + num_retain) % CLASSES
    spoilt = Examples(jnp.full((1, num_forget + num_retain), jnp.nan), jnp.zeros(1, jnp.int32))
    return UnlearnData(
        Examples(inputs[:num_forget], labels[:num_forget]),
        Examples(inputs[num_forget:], labels[num_forget:]),
        spoilt,
    )


@pytest.mark.usefixtures("x64")
def test_forget_outputs_reach_the_untrained_teacher_and_retain_outputs_stay():
    data = make_data()
    original = LINEAR.init(jax.random.key(5), data.forget.inputs)
    method = bad_teacher(
        LINEAR, spec_of(data, CLASSES), BadTeacherConfig(batch_size=6), tx=optax.sgd(20.0)
    )
    state = method.prepare(KEY, original, data)
    first = np.asarray(state.extra.teacher[:2])
    batch = BadTeacherBatch(jnp.eye(6)[state.extra.rows], state.extra.teacher)
    step = jax.jit(method.step)
    for _ in range(200):
        state, info = step(KEY, state, batch)
    kernel = state.variables.params["kernel"]
    np.testing.assert_allclose(jax.nn.softmax(kernel[:2]), jax.nn.softmax(first), atol=1e-6)
    np.testing.assert_allclose(kernel[2:], original.params["kernel"][2:], atol=1e-12)
    assert np.abs(first - original.params["kernel"][:2]).max() > 0.1
    assert float(info["loss"]) < 1e-10


def test_a_pass_takes_every_forget_example_and_the_drawn_share_of_retain_once():
    data = make_data(num_forget=4, num_retain=8)
    original = LINEAR.init(jax.random.key(5), data.forget.inputs)
    config = BadTeacherConfig(batch_size=4, retain_share=0.5, epochs=2)
    method = bad_teacher(LINEAR, spec_of(data, CLASSES), config)
    state = method.prepare(KEY, original, data)
    sample = jax.jit(method.sample)
    batches = [sample(KEY, jnp.asarray(t), state, data) for t in range(method.num_steps)]
    rows = np.concatenate([batch.inputs.argmax(1) for batch in batches])
    assert len(rows) == 2 * 8
    for one_pass in np.split(rows, 2):
        np.testing.assert_array_equal(np.sort(one_pass), np.sort(state.extra.rows))
    np.testing.assert_array_equal(np.sort(state.extra.rows)[:4], np.arange(4))

    teacher = dict(zip(rows.tolist(), np.concatenate([batch.teacher for batch in batches])))
    for row, logits in teacher.items():
        learnt_from_original = np.allclose(logits, original.params["kernel"][row])
        assert learnt_from_original == (row >= 4)


@pytest.mark.parametrize(("num_forget", "num_retain"), [(1, 1), (9, 2)])
def test_runs_on_tiny_sets(num_forget, num_retain):
    data = make_data(num_forget, num_retain)
    original = LINEAR.init(jax.random.key(5), data.forget.inputs)
    config = BadTeacherConfig(batch_size=4, retain_share=0.1, learning_rate=0.1)
    unlearned, _ = unlearn(
        bad_teacher(LINEAR, spec_of(data, CLASSES), config), original, data, key=KEY
    )
    assert np.isfinite(unlearned.params["kernel"]).all()
