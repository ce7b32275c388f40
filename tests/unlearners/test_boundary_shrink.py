"""Boundary shrink: the authors' run, and where the nearest class comes from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions, with_preprocessing
from ltu_jax.training.loop import unlearn
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.boundary_shrink import (
    BoundaryShrinkConfig,
    boundary_shrink,
    nearest_classes,
)
from tests.unlearners.parity import PADDING, Case, net

LINEAR = from_functions(None, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")


def as_stored(examples):
    """The reference's images as uint8, which they were."""
    return examples._replace(inputs=jnp.round(examples.inputs * 255).astype(jnp.uint8))


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("salun_boundary_shrink")
    reference = net()

    def apply(variables, inputs, *, train=False, key=None):
        inputs = inputs.astype(float) / 255 if inputs.dtype == jnp.uint8 else inputs
        return reference.apply(variables, inputs, train=train, key=key)

    data = UnlearnData(*map(as_stored, case.data))
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    config = BoundaryShrinkConfig(epsilon=case.meta["bound"])
    model = reference._replace(apply=apply)
    method = boundary_shrink(model, spec_of(data, case.meta["num_classes"]), config, tx=tx)
    state = method.prepare(jax.random.key(0), case.variables(), data)
    step = jax.jit(method.step)
    trajectory = [state.variables.params]
    for t in range(case["n_steps"]):
        rows = case["steps/idx"][t]
        nearest = state.extra[rows[rows != PADDING]]
        np.testing.assert_array_equal(nearest, case["steps/adv_label"][t][rows != PADDING])
        batch = as_stored(case.batch(t))._replace(labels=nearest)
        state, info = step(jax.random.key(0), state, batch)
        np.testing.assert_allclose(info["nearest_loss"], case["steps/loss"][t], rtol=1e-9)
        trajectory.append(state.variables.params)
    case.assert_follows(trajectory)
    case.assert_state(state.variables.state, "final")


def on_a_line(inputs, labels, retain):
    """Three classes along one feature, with their boundaries at -1 and 1."""
    params = {"kernel": jnp.array([[-2.0, 0.0, 2.0]]), "bias": jnp.array([-2.0, 0.0, -2.0])}
    forget = Examples(jnp.array(inputs)[:, None], jnp.array(labels, jnp.int32))
    others = Examples(jnp.array(retain)[:, None], jnp.zeros(len(retain), jnp.int32))
    return UnlearnData(forget, others, others), Variables(params, {})


def test_nearest_class_is_across_the_boundary_of_a_linear_model():
    # The range is 10, so a tenth of it is 1: -1.5 and 0.9 get across, 2.5 and the middle do not.
    data, variables = on_a_line([-1.5, 0.9, 2.5, 0.0], [0, 1, 2, 1], [-5.0, 5.0])
    assert nearest_classes(LINEAR, variables, data, 0.1).tolist() == [1, 2, 2, 1]
    assert nearest_classes(LINEAR, variables, data, 0.2).tolist() == [1, 2, 1, 1]


def test_perturbed_inputs_stay_in_the_range_of_the_data():
    data, variables = on_a_line([0.9], [1], [-5.0, 0.95])
    assert nearest_classes(LINEAR, variables, data, 1.0).tolist() == [1]


def test_batches_do_not_matter():
    rng = np.random.default_rng(0)
    inputs, labels = rng.uniform(-3, 3, 11).astype(np.float32), rng.integers(0, 3, 11)
    data, variables = on_a_line(inputs, labels, [-5.0, 5.0])
    whole = nearest_classes(LINEAR, variables, data, 0.1)
    in_parts = nearest_classes(LINEAR, variables, data, 0.1, batch_size=4)
    np.testing.assert_array_equal(whole, in_parts)


def pixels():
    inputs = jnp.array([[[[100]]], [[[250]]]], jnp.uint8)
    examples = Examples(inputs, jnp.array([0, 1], jnp.int32))
    params = {"kernel": jnp.array([[0.0, 9.0]]), "bias": jnp.array([0.0, -9 * 130 / 255])}
    return UnlearnData(examples, examples, examples), Variables(params, {})


def test_images_move_by_whole_levels():
    flat = from_functions(
        None, lambda p, x: x.reshape(len(x), -1) @ p["kernel"] + p["bias"], name="flat"
    )
    model = with_preprocessing(flat, mean=(0.5,), std=(0.5,), augment=False)
    data, variables = pixels()
    # The network sees (x - 127.5) / 127.5, so the boundary lies at level 192.5.
    assert nearest_classes(model, variables, data, 92 / 255).tolist() == [0, 0]
    assert nearest_classes(model, variables, data, 93 / 255).tolist() == [1, 0]
    assert nearest_classes(model, variables, data, 57 / 255).tolist() == [0, 1]


def test_a_model_that_scales_images_differently_is_refused():
    raw = from_functions(
        None, lambda p, x: x.reshape(len(x), -1) / 255 @ p["kernel"] + p["bias"], name="raw"
    )
    data, variables = pixels()
    method = boundary_shrink(raw, spec_of(data, 2))
    with pytest.raises(InputError) as error:
        method.prepare(jax.random.key(0), variables, data)
    assert error.value.argument == "model"


@pytest.mark.parametrize("num_forget", [1, 9])
def test_forget_set_is_predicted_as_its_nearest_classes(num_forget):
    data, variables = on_a_line([0.9] * num_forget, [1] * num_forget, [-5.0, 5.0])
    config = BoundaryShrinkConfig(epochs=10, batch_size=4, learning_rate=0.3, momentum=0.0)
    method = boundary_shrink(LINEAR, spec_of(data, 3), config)
    state = method.prepare(jax.random.key(1), variables, data)
    batch = jax.jit(method.sample)(jax.random.key(1), 0, state, data)
    assert batch.labels.tolist() == [2] * min(num_forget, 4)
    result, history = unlearn(method, variables, data, key=jax.random.key(1))
    assert (LINEAR.apply(result, data.forget.inputs)[0].argmax(-1) == 2).all()
    assert history["nearest_loss"][-1] < history["nearest_loss"][0]
