"""Sliced-Wasserstein matching, and held-out distillation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ltu_jax.models import from_functions
from ltu_jax.training.losses import distillation
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import HeldoutDistillation, LTUConfig, Objective, ltu
from ltu_jax.unlearners.ltu.membership import HUBER_DELTA, hinge, read_outputs
from ltu_jax.unlearners.ltu.objectives.projections import (
    NUM_LARGEST,
    draw_projections,
    output_features,
    output_targets,
    projected_distances,
)
from ltu_jax.unlearners.ltu.tasks import make_tasks

KEY = jax.random.key(0)
CLASSES = 4
CONFIG = LTUConfig(
    steps=2,
    audit_size=16,
    query_size=8,
    query_sampling=("uniform",),
    objective=Objective("sliced_wasserstein", projections=8),
    heldout_distillation=HeldoutDistillation(weight=0.5, size=12),
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
    variables, tasks = LINEAR.init(KEY, data.forget.inputs), tasks_of(config, data)
    state = tasks.prepare(KEY, variables, data)
    return variables, state, tasks.sample(KEY, jnp.asarray(0), state, data)


def tasks_of(config, data):
    return make_tasks(LINEAR, spec_of(data, CLASSES), config, config.objective.build())


def test_losses_are_wasserstein_distances_along_the_projections():
    size = 2000  # quantiles between order statistics are as good as these
    (logits, labels), wanted = (
        some_outputs(size, seed=1),
        output_targets(KEY, *some_outputs(size), 8),
    )
    along = draw_projections(KEY, wanted, 8, size)
    np.testing.assert_allclose(jnp.linalg.norm(along.directions, axis=0), 1.0, rtol=1e-5)
    losses = projected_distances(wanted, along, jnp.asarray(20.0 * logits), jnp.asarray(labels))
    seen = (output_features(20.0 * logits, labels) - wanted.mean) / wanted.std
    for loss, direction in zip(losses, along.directions.T, strict=True):
        distance = scipy.stats.wasserstein_distance(seen @ direction, wanted.features @ direction)
        # Rounding takes at most half of `HUBER_DELTA` from a distance.
        assert distance - HUBER_DELTA / 2 - 1e-3 <= loss <= distance + 1e-3


def test_the_targets_themselves_are_at_distance_zero():
    outputs = some_outputs(2000)
    wanted = output_targets(KEY, *outputs, 8)
    along = draw_projections(KEY, wanted, 8, 2000)
    losses = projected_distances(wanted, along, *map(jnp.asarray, outputs))
    np.testing.assert_allclose(losses, 0.0, atol=1e-3)


@pytest.mark.slow
def test_detects_a_difference_that_no_single_score_shows():
    """Equal margins of the forget set and the targets, another order of the other classes."""
    rng = np.random.default_rng(0)
    labels = np.zeros(200, int)
    sure = rng.normal(size=(200, 1))
    logits = np.concatenate([sure + 4, sure, sure - 1, sure - 2], axis=1)
    other = np.concatenate([sure + 4, sure, sure - 6, sure - 7], axis=1)
    margins = [hinge(read_outputs(one, labels))[0] for one in (logits, other)]
    np.testing.assert_allclose(*margins, rtol=1e-5)
    wanted = output_targets(KEY, logits, labels, 8)
    along = draw_projections(KEY, wanted, 8, 200)
    same, found = (
        projected_distances(wanted, along, jnp.asarray(one), jnp.asarray(labels)).mean()
        for one in (logits, other)
    )
    assert same < 1e-3 < 1 < found


@pytest.mark.slow
def test_gradient_is_finite_where_the_network_is_certain():
    logits, labels = jnp.eye(CLASSES) * 300.0, jnp.arange(CLASSES)
    wanted = output_targets(KEY, *some_outputs(60), 8)
    along = draw_projections(KEY, wanted, 8, CLASSES)
    gradient = jax.grad(lambda x: projected_distances(wanted, along, x, labels).sum())(logits)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_many_classes_are_cut_to_the_largest():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 50)))
    assert output_features(logits, jnp.zeros(3, int)).shape == (3, 3 + 2 * NUM_LARGEST)


@pytest.mark.slow
def test_projections_are_drawn_in_every_step_and_change_no_other_draw():
    data = make_data()
    _, state, batch = prepared(CONFIG, data)
    other = tasks_of(CONFIG, data).sample(jax.random.key(9), jnp.asarray(0), state, data)
    assert not np.allclose(batch.draw.directions, other.draw.directions)
    plain = replace(CONFIG, objective=Objective(), heldout_distillation=HeldoutDistillation())
    _, _, without = prepared(plain, data)
    assert without.draw == ()
    assert without.heldout is None
    for name in ("support", "audit", "queries", "teacher"):
        jax.tree.map(np.testing.assert_array_equal, getattr(batch, name), getattr(without, name))


@pytest.mark.slow
def test_heldout_distillation_is_on_validation_examples():
    data = make_data()
    variables, state, batch = prepared(CONFIG, data)
    inputs, teacher = batch.heldout
    among = (inputs[:, None] == data.validation.inputs[None]).all(-1)
    rows = among.argmax(1)
    assert among.any(1).all()
    assert len(np.unique(rows)) == CONFIG.heldout_distillation.size
    expected = LINEAR.apply(variables, data.validation.inputs)[0][rows]
    np.testing.assert_allclose(teacher, expected, rtol=1e-5)
    moved = jax.tree.map(lambda x: 0.5 * x, variables.params)
    losses = tasks_of(CONFIG, data).losses
    queries = losses(state, batch).queries(moved)
    without = losses(state, batch._replace(heldout=None)).queries(moved)
    logits = LINEAR.apply(Variables(moved, {}), inputs)[0]
    held = distillation(logits, teacher, CONFIG.temperature).mean()
    assert held > 0.01
    weight = CONFIG.heldout_distillation.weight
    np.testing.assert_allclose(queries - without, weight * held, rtol=1e-4)


def test_heldout_distillation_uses_no_label():
    data = make_data()
    shuffled = data.validation._replace(labels=data.validation.labels[::-1])
    _, _, batch = prepared(CONFIG, data)
    _, _, other = prepared(CONFIG, data._replace(validation=shuffled))
    jax.tree.map(np.testing.assert_array_equal, batch.heldout, other.heldout)


def test_examples_of_a_forgotten_class_are_not_distilled():
    data = make_data(gone=0)
    config = replace(
        CONFIG,
        objective=replace(CONFIG.objective, target_source="heldout"),
        heldout_distillation=HeldoutDistillation(0.5, 10_000),
    )
    _, _, batch = prepared(config, data)
    kept = data.validation.inputs[data.validation.labels != 0]
    assert len(batch.heldout[0]) == len(data.validation.labels)
    among = (batch.heldout[0][:, None] == kept[None]).all(-1)
    assert among.any(1).all()
    assert set(np.asarray(among.sum(0))) <= {1, 2}  # each of them once, and some once more


def test_half_of_the_projections_are_the_support():
    assert CONFIG.objective.build()[-2:] == (8, 4)


@pytest.mark.slow
def test_a_step_reports_the_effective_number_of_its_projections():
    data = make_data()
    method = ltu(LINEAR, spec_of(data, CLASSES), CONFIG)
    state = method.prepare(KEY, LINEAR.init(KEY, data.forget.inputs), data)
    batch = method.sample(KEY, jnp.asarray(0), state, data)
    _, info = method.step(KEY, state, batch)
    assert 1 < info["effective_models"] < 8
    assert info["loss_forget"] > 0
    assert np.isfinite(info["norm_forget"])
