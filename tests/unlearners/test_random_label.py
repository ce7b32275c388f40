"""Random labels: the authors' runs, what labels are drawn, and in which order examples come."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.random_label import (
    RandomLabelBatch,
    RandomLabelConfig,
    draw_labels,
    random_label,
)
from tests.unlearners.parity import PADDING, Case, net

CLASSES = 3
LINEAR = from_functions(None, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")


def make_data(num_forget, num_retain):
    """Inputs are numbered 0, 1, ... over forget and retain, so that a batch tells its rows."""
    numbers = np.arange(num_forget + num_retain, dtype=np.float32)[:, None]
    examples = Examples(jnp.asarray(numbers), jnp.asarray(np.arange(len(numbers)) % CLASSES))
    forget = jax.tree.map(lambda x: x[:num_forget], examples)
    retain = jax.tree.map(lambda x: x[num_forget:], examples)
    return UnlearnData(forget, retain, retain)


def make_variables():
    return Variables({"kernel": jnp.asarray([[0.1, 0.0, -0.1]]), "bias": jnp.zeros(CLASSES)}, {})


def batches(data, config, count):
    """The first batches of a run."""
    method = random_label(LINEAR, spec_of(data, CLASSES), config)
    state = method.prepare(jax.random.key(0), make_variables(), data)
    sample = jax.jit(method.sample)
    return [sample(jax.random.key(9), jnp.asarray(t), state, data) for t in range(count)]


def rows(batch):
    return np.asarray(batch.inputs[:, 0], int)


@pytest.mark.parametrize("name", ["salun_rl_seq", "salun_rl_joint", "ssd_amnesiac"])
@pytest.mark.usefixtures("x64")
def test_follows_the_reference(name):
    case = Case(name)
    if case.meta["method"] == "amnesiac":
        tx = optax.adam(case.rates())
    else:
        tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    classes = case.meta["num_classes"]
    method = random_label(net(), spec_of(case.data, classes), RandomLabelConfig(), tx=tx)
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    step = jax.jit(method.step)
    trajectory, losses = [state.variables.params], []
    for t in range(case["n_steps"]):
        sets = case["steps/set"][t]
        batch = RandomLabelBatch(*case.batch(t), jnp.asarray(sets[sets != PADDING] == 1), None)
        state, info = step(jax.random.key(0), state, batch)
        trajectory.append(state.variables.params)
        losses.append(info["loss"])
    case.assert_follows(trajectory)
    np.testing.assert_allclose(losses, case["steps/loss"], rtol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), classes=st.integers(2, 7))
def test_true_label_is_never_drawn(seed, classes):
    labels = jnp.arange(40) % classes
    drawn = draw_labels(jax.random.key(seed), labels, classes)
    assert drawn.dtype == labels.dtype
    assert ((drawn >= 0) & (drawn < classes)).all()
    assert (drawn != labels).all()


def test_labels_are_uniform_over_the_wrong_classes():
    drawn = draw_labels(jax.random.key(0), jnp.full(40_000, 2), 5)
    counts = np.bincount(drawn, minlength=5) / 40_000
    np.testing.assert_allclose(counts, [0.25, 0.25, 0.0, 0.25, 0.25], atol=0.01)


def test_sequential_passes_over_forget_and_then_over_retain():
    data = make_data(5, 12)
    drawn = batches(data, RandomLabelConfig(batch_size=4, order="sequential"), 10)
    forget_steps = [bool((rows(batch) < 5).all()) for batch in drawn]
    assert forget_steps == [True, True, False, False, False] * 2
    assert all((batch.retained == (rows(batch) >= 5)).all() for batch in drawn)
    for epoch in (drawn[:5], drawn[5:]):
        assert sorted(np.concatenate([rows(batch) for batch in epoch[2:]])) == list(range(5, 17))
        assert set(np.concatenate([rows(batch) for batch in epoch[:2]])) == set(range(5))


def test_joint_shuffles_both_sets_together():
    data = make_data(5, 11)
    drawn = batches(data, RandomLabelConfig(batch_size=4, order="joint"), 8)
    orders = [np.concatenate([rows(batch) for batch in part]) for part in (drawn[:4], drawn[4:])]
    assert [sorted(order) for order in orders] == [list(range(16))] * 2
    assert list(orders[0]) != list(orders[1])


@pytest.mark.parametrize(("order", "redraw"), [("joint", False), ("sequential", True)])
def test_retain_keeps_its_labels_and_forget_gets_wrong_ones(order, redraw):
    data = make_data(8, 24)
    drawn = batches(data, RandomLabelConfig(batch_size=8, order=order, redraw=redraw), 12)
    epochs = []
    for epoch in (drawn[:4], drawn[4:8], drawn[8:]):
        where = np.concatenate([rows(batch) for batch in epoch])
        labels = np.concatenate([batch.labels for batch in epoch])[np.argsort(where)]
        assert (labels[8:] == np.arange(8, 32) % CLASSES).all()
        assert (labels[:8] != np.arange(8) % CLASSES).all()
        epochs.append(tuple(labels[:8]))
    assert len(set(epochs)) == (3 if redraw else 1)


def test_distillation_reaches_the_retain_set_alone():
    data = make_data(4, 4)
    config = RandomLabelConfig(batch_size=8, distill=1.0)
    method = random_label(LINEAR, spec_of(data, CLASSES), config)
    state = method.prepare(jax.random.key(0), make_variables(), data)
    (batch,) = batches(data, config, 1)
    assert sorted(rows(batch)) == list(range(8))
    _, info = jax.jit(method.step)(jax.random.key(2), state, batch)
    logits, _ = LINEAR.apply(state.variables, batch.inputs)
    np.testing.assert_allclose(batch.teacher[batch.retained], logits[batch.retained], rtol=1e-6)
    # The network still is its teacher, so that only cross-entropy on forget examples is left.
    wanted = jnp.where(batch.retained, 0.0, cross_entropy(logits, batch.labels)).mean()
    np.testing.assert_allclose(info["loss"], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_forget", "num_retain", "order"), [(1, 20, "sequential"), (20, 3, "joint")]
)
def test_forgets_in_any_proportion_of_the_sets(num_forget, num_retain, order):
    data = make_data(num_forget, num_retain)
    # Each example has a weight per class to itself, so that all can be learnt.
    own = jnp.eye(num_forget + num_retain)
    data = data._replace(
        forget=data.forget._replace(inputs=own[:num_forget]),
        retain=data.retain._replace(inputs=own[num_forget:]),
    )
    start = Variables({"kernel": jnp.zeros((len(own), CLASSES)), "bias": jnp.zeros(CLASSES)}, {})
    config = RandomLabelConfig(
        epochs=2, batch_size=8, order=order, learning_rate=0.1, weight_decay=0.0
    )
    method = random_label(LINEAR, spec_of(data, CLASSES), config)
    result, history = unlearn(method, start, data, key=jax.random.key(3))
    assert history["loss"].shape == (method.num_steps,)
    before, after = (
        cross_entropy(LINEAR.apply(v, data.forget.inputs)[0], data.forget.labels).mean()
        for v in (start, result)
    )
    assert after > before


def test_a_single_class_is_refused():
    with pytest.raises(InputError) as error:
        random_label(LINEAR, spec_of(make_data(1, 2), 1))
    assert error.value.argument == "method"
