"""The joint target: distances along random directions, and held-out outputs held in place."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training.losses import distillation
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.algorithm import ltu
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.objectives import sliced_wasserstein as joint
from ltu_jax.unlearners.ltu.tasks import batch_sizes, draw_batch, prepare_state, shaken, tasks

KEY = jax.random.key(0)
CLASSES = 4
CONFIG = LTUConfig(
    steps=2,
    audit_size=16,
    query_size=8,
    query_sampling=("uniform",),
    membership_target="joint",
    directions=8,
    anchor=0.5,
    anchor_size=12,
)
LINEAR = from_functions(
    lambda key, x: {"kernel": jax.random.normal(key, (x.shape[-1], CLASSES))},
    lambda p, x: x @ p["kernel"],
    name="linear",
)


def some_outputs(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, CLASSES)) * 3, rng.integers(CLASSES, size=size)


def make_data(gone=None):
    """Return 24, 40 and 48 examples; of the class `gone` there are forget and validation ones."""
    rng = np.random.default_rng(1)
    parts = {}
    for name, size in (("forget", 24), ("retain", 40), ("validation", 48)):
        labels = np.arange(size) % CLASSES
        if gone is not None and name != "validation":
            labels = np.full(size, gone) if name == "forget" else (labels % (CLASSES - 1)) + 1
        inputs = jnp.asarray(rng.normal(size=(size, 5)), jnp.float32)
        parts[name] = Examples(inputs, jnp.asarray(labels, jnp.int32))
    return UnlearnData(**parts)


def prepared(config, data):
    variables = LINEAR.init(KEY, data.forget.inputs)
    state = prepare_state(KEY, LINEAR, variables, (), data, CLASSES, config)
    sizes = batch_sizes(config, spec_of(data, CLASSES))
    batch = draw_batch(KEY, state, data, sizes, CLASSES, config)
    return variables, state, batch


def test_losses_are_wasserstein_distances_along_the_directions():
    size = 2000  # quantiles between order statistics are as good as these
    (logits, labels), wanted = some_outputs(size, seed=1), joint.aim(KEY, *some_outputs(size), 8)
    along = joint.slices(KEY, wanted, 8, size)
    np.testing.assert_allclose(jnp.linalg.norm(along.directions, axis=0), 1.0, rtol=1e-5)
    losses = joint.joint_losses(wanted, along, jnp.asarray(20.0 * logits), jnp.asarray(labels))
    seen = (joint.outputs(20.0 * logits, labels) - wanted.mean) / wanted.std
    for loss, direction in zip(losses, along.directions.T, strict=True):
        distance = scipy.stats.wasserstein_distance(seen @ direction, wanted.outputs @ direction)
        # Rounding takes at most half of `ROUNDING` from a distance.
        assert distance - mi.ROUNDING / 2 - 1e-3 <= loss <= distance + 1e-3


def test_the_stand_ins_themselves_are_at_distance_zero():
    outputs = some_outputs(2000)
    wanted = joint.aim(KEY, *outputs, 8)
    along = joint.slices(KEY, wanted, 8, 2000)
    losses = joint.joint_losses(wanted, along, *map(jnp.asarray, outputs))
    np.testing.assert_allclose(losses, 0.0, atol=1e-3)


def test_finds_what_no_single_score_shows():
    """Equal margins of the forget set and the stand-ins, another order of the other classes."""
    rng = np.random.default_rng(0)
    labels = np.zeros(200, int)
    sure = rng.normal(size=(200, 1))
    logits = np.concatenate([sure + 4, sure, sure - 1, sure - 2], axis=1)
    other = np.concatenate([sure + 4, sure, sure - 6, sure - 7], axis=1)
    margins = [mi.hinge(jnp.asarray(one), jnp.asarray(labels)) for one in (logits, other)]
    np.testing.assert_allclose(*margins, rtol=1e-5)
    wanted = joint.aim(KEY, logits, labels, 8)
    along = joint.slices(KEY, wanted, 8, 200)
    same, found = (
        joint.joint_losses(wanted, along, jnp.asarray(one), jnp.asarray(labels)).mean()
        for one in (logits, other)
    )
    assert same < 1e-3 < 1 < found


def test_gradient_is_finite_where_the_network_is_certain():
    logits, labels = jnp.eye(CLASSES) * 300.0, jnp.arange(CLASSES)
    wanted = joint.aim(KEY, *some_outputs(60), 8)
    along = joint.slices(KEY, wanted, 8, CLASSES)
    gradient = jax.grad(lambda x: joint.joint_losses(wanted, along, x, labels).sum())(logits)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_many_classes_are_cut_to_the_largest():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 50)))
    assert joint.outputs(logits, jnp.zeros(3, int)).shape == (3, 3 + 2 * joint.LARGEST)


def test_directions_are_drawn_anew_and_move_no_other_draw():
    data = make_data()
    _, state, batch = prepared(CONFIG, data)
    sizes = batch_sizes(CONFIG, spec_of(data, CLASSES))
    other = draw_batch(jax.random.key(9), state, data, sizes, CLASSES, CONFIG)
    assert not np.allclose(batch.slices.directions, other.slices.directions)
    plain = replace(CONFIG, membership_target="match", anchor=0.0)
    _, _, without = prepared(plain, data)
    assert without.slices is None
    assert without.anchor is None
    for name in ("support", "audit", "audit_rows", "queries", "teacher"):
        jax.tree.map(np.testing.assert_array_equal, getattr(batch, name), getattr(without, name))


def test_the_anchor_is_distillation_on_validation_examples():
    data = make_data()
    variables, state, batch = prepared(CONFIG, data)
    inputs, teacher = batch.anchor
    among = (inputs[:, None] == data.validation.inputs[None]).all(-1)
    rows = among.argmax(1)
    assert among.any(1).all()
    assert len(np.unique(rows)) == CONFIG.anchor_size
    expected = LINEAR.apply(variables, data.validation.inputs)[0][rows]
    np.testing.assert_allclose(teacher, expected, rtol=1e-5)
    moved = jax.tree.map(lambda x: 0.5 * x, variables.params)
    queries = tasks(LINEAR, state, batch, CONFIG).queries(moved)
    without = tasks(LINEAR, state, batch._replace(anchor=None), CONFIG).queries(moved)
    logits = LINEAR.apply(Variables(moved, {}), inputs)[0]
    held = distillation(logits, teacher, CONFIG.temperature).mean()
    assert held > 0.01
    np.testing.assert_allclose(queries - without, CONFIG.anchor * held, rtol=1e-4)


def test_no_label_of_a_validation_example_enters_the_anchor():
    data = make_data()
    shuffled = data.validation._replace(labels=data.validation.labels[::-1])
    _, _, batch = prepared(CONFIG, data)
    _, _, other = prepared(CONFIG, data._replace(validation=shuffled))
    jax.tree.map(np.testing.assert_array_equal, batch.anchor, other.anchor)


def test_examples_of_a_class_that_goes_hold_nothing_in_place():
    data = make_data(gone=0)
    config = replace(CONFIG, anchor_size=10_000, stand_ins="heldout")
    _, _, batch = prepared(config, data)
    kept = data.validation.inputs[data.validation.labels != 0]
    assert len(batch.anchor[0]) == len(kept)
    assert (batch.anchor[0][:, None] == kept[None]).all(-1).any(1).all()


def test_shaking_moves_matrices_by_a_share_of_their_spread_and_no_teacher():
    data = make_data()
    variables, still, _ = prepared(CONFIG, data)
    params = {**variables.params, "bias": jnp.ones(CLASSES), "wide": jnp.full((200, 300), 2.0)}
    params["wide"] = params["wide"].at[::2].set(-1.0)
    moved = shaken(KEY, params, 0.5)
    np.testing.assert_array_equal(moved["bias"], params["bias"])
    noise = moved["wide"] - params["wide"]
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(0.5 * 1.5, rel=0.02)
    _, state, _ = prepared(replace(CONFIG, shake=0.5), data)
    assert not np.allclose(state.variables.params["kernel"], variables.params["kernel"])
    for name in ("teacher", "models", "anchor", "pool"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(still, name))


def test_support_and_queries_share_the_directions():
    assert CONFIG.membership_tasks() == (8, 4)
    assert replace(CONFIG, membership_target="match").membership_tasks() == (6, 3)


def test_a_step_reports_how_many_models_its_directions_amount_to():
    data = make_data()
    method = ltu(LINEAR, spec_of(data, CLASSES), CONFIG)
    state = method.prepare(KEY, LINEAR.init(KEY, data.forget.inputs), data)
    batch = method.sample(KEY, jnp.asarray(0), state, data)
    _, info = method.step(KEY, state, batch)
    assert 1 < info["effective_models"] < 8
    assert info["loss_forget"] > 0
    assert np.isfinite(info["norm_forget"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": 1}, "directions is 1; give a number of at least 2"),
        ({"anchor": -1.0}, "anchor is -1.0; give a number of at least 0"),
        ({"shake": -0.1}, "shake is -0.1; give a number of at least 0"),
        ({"anchor_size": 0}, "anchor_size is 0; give a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        LTUConfig(**options)
