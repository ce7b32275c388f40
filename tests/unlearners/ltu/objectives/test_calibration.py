"""Difficulty calibration: lines, residuals, and the training sets of reference models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.ltu import CalibrationConfig, make_context, match_membership
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.objectives import calibration

KEY = jax.random.key(0)
CLASSES = 3
SPECS = (mi.MembershipSpec("log_odds"), mi.MembershipSpec("hinge"))
LINEAR = from_functions(
    lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], CLASSES))},
    lambda p, x: x @ p["w"],
    name="linear",
)


def examples(size, seed, labels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=size) if labels is None else labels
    inputs = rng.normal(size=(size, 4)).astype(np.float32)
    inputs[:, 0] = 1000 * seed + np.arange(size)  # identifies the example
    return Examples(jnp.asarray(inputs), jnp.asarray(labels, jnp.int32))


DATA = UnlearnData(examples(10, 1), examples(40, 2), examples(20, 3))


def test_lines_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    reference, scores = rng.normal(size=(2, 30)), rng.normal(size=(2, 30))
    slope, intercept = calibration.fit_lines(reference, scores)
    for row in range(2):
        wanted = np.polyfit(reference[row], scores[row], 1)
        np.testing.assert_allclose([slope[row, 0], intercept[row, 0]], wanted, rtol=1e-9)


def test_constant_reference_scores_give_the_mean():
    scores = np.random.default_rng(0).normal(size=(2, 30))
    slope, intercept = calibration.fit_lines(np.ones((2, 30)), scores)
    np.testing.assert_array_equal(slope, 0.0)
    np.testing.assert_allclose(intercept[:, 0], scores.mean(1))


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(3, 50), st.floats(0, 1), st.integers(0, 2**31))
def test_residuals_are_those_of_one_heldout_example_each(count, heldout, correlation, seed):
    rng = np.random.default_rng(seed)
    residuals = rng.normal(size=(3, heldout))
    drawn = calibration.draw_residuals(
        jax.random.key(seed), rng.normal(size=count), residuals, correlation
    )
    assert drawn.shape == (3, count)
    assert {tuple(column) for column in drawn.T} <= {tuple(column) for column in residuals.T}


def test_residuals_have_the_rank_correlation_that_is_asked_for():
    rng = np.random.default_rng(0)
    original, residuals = rng.normal(size=2000), rng.normal(size=(1, 2000))
    for correlation in (0.0, 0.5, 1.0):
        drawn = calibration.draw_residuals(KEY, original, residuals, correlation)[0]
        measured = scipy.stats.spearmanr(original, drawn).statistic
        # Of normal ranks with correlation c, Spearman's is 6 / pi asin(c / 2).
        assert measured == pytest.approx(6 / np.pi * np.arcsin(correlation / 2), abs=0.06)


def test_no_reference_model_is_trained_on_the_examples_that_it_predicts(monkeypatch):
    kept = np.array([True, True, False])
    trained = []

    def spy(model, seen, recipe, *, key):
        trained.append(seen)
        return model.init(key, seen.inputs[:1]), {}

    def outputs_are_inputs(model, variables, inputs):
        return np.tile(np.asarray(inputs)[:, :1], (1, CLASSES)) + len(trained) / 10

    monkeypatch.setattr(calibration, "train", spy)
    monkeypatch.setattr(calibration, "predict", outputs_are_inputs)
    ((validation, forget),) = calibration.reference_outputs(
        KEY, LINEAR, DATA, kept, CalibrationConfig()
    )
    seen = [set(np.asarray(part.inputs)[:, 0]) for part in trained]
    forgotten = set(np.asarray(DATA.forget.inputs)[:, 0])
    assert all(not part & forgotten for part in seen)
    assert all(set(np.asarray(DATA.retain.inputs)[:, 0]) <= part for part in seen)
    gone = set(np.asarray(DATA.validation.inputs)[np.asarray(DATA.validation.labels) == 2, 0])
    assert gone
    assert all(not part & gone for part in seen)
    by = np.round(10 * (validation[:, 0] % 1)).astype(int) - 1  # the model that predicted
    for row, number in enumerate(by):
        assert float(DATA.validation.inputs[row, 0]) not in seen[number]
    assert set(np.round(10 * (forget[:, 0] % 1)).astype(int) - 1) == {0, 1}


@pytest.fixture(scope="module")
def calibrated():
    variables = LINEAR.init(KEY, DATA.forget.inputs)
    context = make_context(KEY, LINEAR, variables, DATA, "heldout")
    forgetting = calibration.calibrated(SPECS, 1, CalibrationConfig(references=0))
    logits = LINEAR.apply(variables, DATA.forget.inputs)[0]
    return forgetting.init(KEY, context, 10), logits, DATA.forget.labels


@pytest.mark.slow
def test_without_references_all_expected_scores_are_those_of_the_targets(calibrated):
    state, _, _ = calibrated
    assert np.ptp(np.asarray(state.examples.expected), axis=0) == pytest.approx(0, abs=1e-6)
    assert state.examples.targets.shape == (10, 2)


def losses(state, weights, logits, labels, rows):
    forgetting = calibration.calibrated(SPECS, 1, CalibrationConfig(weights=weights))
    return forgetting.losses(state, forgetting.sample(KEY, state, rows), logits, labels)


def test_the_first_weight_alone_is_matching(calibrated):
    state, *outputs = calibrated
    found = losses(state, (2.0, 0.0, 0.0), *outputs, jnp.arange(10))
    matched = match_membership(SPECS).losses(state.ensemble, (), *outputs)
    np.testing.assert_allclose(found, matched, rtol=1e-6)


def test_the_last_weight_alone_is_the_distance_of_each_score_to_its_own_target(calibrated):
    state, *outputs = calibrated
    scores = mi.all_scores(SPECS, state.ensemble.heads, *outputs)
    there = state._replace(examples=state.examples._replace(targets=scores.T))
    assert not losses(there, (0.0, 0.0, 1.0), *outputs, jnp.arange(10)).any()
    assert (losses(there, (0.0, 0.0, 1.0), *outputs, jnp.arange(10)[::-1]) > 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"references": -1},
        {"epochs": 0},
        {"rank_correlation": 1.5},
        {"weights": (0.0, 0.0, 0.0)},
        {"weights": (1.0, -1.0, 1.0)},
        {"weights": (1.0, 1.0)},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError) as error:
        CalibrationConfig(**options)
    assert error.value.argument in options
