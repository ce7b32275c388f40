"""Scores calibrated by example: lines, residuals, references that know nothing they should not."""

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
from ltu_jax.unlearners.ltu import diagnostics as diagnosis
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.objectives import calibrated as calibration
from ltu_jax.unlearners.ltu.objectives.calibrated import CalibrationConfig
from ltu_jax.unlearners.ltu.objectives.reference import stand_ins

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
    inputs[:, 0] = 1000 * seed + np.arange(size)  # tells which example it is
    return Examples(jnp.asarray(inputs), jnp.asarray(labels, jnp.int32))


DATA = UnlearnData(examples(10, 1), examples(40, 2), examples(20, 3))


def test_lines_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    hints, scores = rng.normal(size=(2, 30)), rng.normal(size=(2, 30))
    slope, intercept = calibration.fit_lines(hints, scores)
    for row in range(2):
        wanted = np.polyfit(hints[row], scores[row], 1)
        np.testing.assert_allclose([slope[row, 0], intercept[row, 0]], wanted, rtol=1e-9)


def test_hints_that_say_nothing_give_the_mean():
    scores = np.random.default_rng(0).normal(size=(2, 30))
    slope, intercept = calibration.fit_lines(np.ones((2, 30)), scores)
    np.testing.assert_array_equal(slope, 0.0)
    np.testing.assert_allclose(intercept[:, 0], scores.mean(1))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(3, 50), st.floats(0, 1), st.integers(0, 2**31))
def test_residuals_are_those_of_one_heldout_example_each(count, heldout, coupling, seed):
    rng = np.random.default_rng(seed)
    residuals = rng.normal(size=(3, heldout))
    drawn = calibration.draw_residuals(
        jax.random.key(seed), rng.normal(size=count), residuals, coupling
    )
    assert drawn.shape == (3, count)
    assert {tuple(column) for column in drawn.T} <= {tuple(column) for column in residuals.T}


def test_full_coupling_keeps_the_order_and_none_forgets_it():
    rng = np.random.default_rng(0)
    unusual, residuals = rng.normal(size=2000), rng.normal(size=(1, 2000))
    for coupling in (0.0, 0.5, 1.0):
        drawn = calibration.draw_residuals(KEY, unusual, residuals, coupling)[0]
        kept = scipy.stats.spearmanr(unusual, drawn).statistic
        # Of normal ranks with correlation c, Spearman's is 6 / pi asin(c / 2).
        assert kept == pytest.approx(6 / np.pi * np.arcsin(coupling / 2), abs=0.06)


def test_references_never_see_what_they_are_asked_about(monkeypatch):
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
    by = np.round(10 * (validation[:, 0] % 1)).astype(int) - 1  # which network answered
    for row, network in enumerate(by):
        assert float(DATA.validation.inputs[row, 0]) not in seen[network]
    assert set(np.round(10 * (forget[:, 0] % 1)).astype(int) - 1) == {0, 1}


@pytest.fixture(scope="module")
def calibrated():
    variables = LINEAR.init(KEY, DATA.forget.inputs)
    logits = [LINEAR.apply(variables, part.inputs)[0] for part in DATA]
    forget, retain, heldout = zip(logits, (part.labels for part in DATA), strict=True)
    aims = stand_ins(forget[1], heldout, np.zeros(CLASSES, bool))
    ensemble = mi.fit_ensemble(KEY, SPECS, retain, heldout, aims, quantiles=10)
    config = CalibrationConfig(references=0)
    found = calibration.calibrate(
        KEY, LINEAR, variables, DATA, SPECS, ensemble, np.ones(CLASSES, bool), config
    )
    return ensemble, found, forget


def test_without_references_all_are_expected_to_score_as_the_stand_ins_do(calibrated):
    _, found, _ = calibrated
    assert np.ptp(np.asarray(found.expected), axis=0) == pytest.approx(0, abs=1e-6)
    assert found.aims.shape == (10, 2)


def test_the_first_weight_alone_is_matching(calibrated):
    ensemble, found, (logits, labels) = calibrated
    rows = jnp.arange(10)
    losses = calibration.calibrated_losses(
        SPECS, ensemble, found, (2.0, 0.0, 0.0), logits, labels, rows
    )
    matched = mi.membership_losses(SPECS, ensemble, logits, labels)
    np.testing.assert_allclose(losses, matched, rtol=1e-6)


def test_the_last_weight_alone_wants_each_score_at_its_own_aim(calibrated):
    ensemble, found, (logits, labels) = calibrated
    scores = mi.all_scores(SPECS, ensemble.heads, logits, labels)
    there = found._replace(aims=scores.T)
    arguments = (0.0, 0.0, 1.0), logits, labels, jnp.arange(10)
    assert not calibration.calibrated_losses(SPECS, ensemble, there, *arguments).any()
    swapped = (0.0, 0.0, 1.0), logits, labels, jnp.arange(10)[::-1]
    assert (calibration.calibrated_losses(SPECS, ensemble, there, *swapped) > 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"references": -1},
        {"epochs": 0},
        {"coupling": 1.5},
        {"weights": (0.0, 0.0, 0.0)},
        {"weights": (1.0, -1.0, 1.0)},
        {"weights": (1.0, 1.0)},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="calibration"):
        LTUConfig(calibration=CalibrationConfig(**options))


def test_effective_models_of_copies_and_of_strangers():
    rows = np.random.default_rng(0).normal(size=(4, 4000))
    assert float(mi.effective_models(rows)) == pytest.approx(4, rel=0.01)
    assert float(mi.effective_models(rows[[0, 0, 0]])) == pytest.approx(1, rel=1e-5)
    assert float(mi.effective_models(rows[:1])) == pytest.approx(1, rel=1e-5)


def test_share_removed_is_what_projection_takes():
    np.testing.assert_allclose(diagnosis.share_removed([0.5, 0.0, -0.6, -1.0]), [0, 0, 0.2, 1])


def test_signs_of_failure_are_told_and_sound_runs_are_not():
    sound = {"cosine": np.full(5, -0.3), "effective_models": np.full(5, 2.0)}
    assert diagnosis.signs(sound) == []
    assert diagnosis.signs({}) == []
    (opposed,) = diagnosis.signs({**sound, "cosine": np.full(5, -0.95)})
    assert "harmonisation" in opposed
    assert "69 %" in opposed
    (alike,) = diagnosis.signs({**sound, "effective_models": np.ones(5)})
    assert "same task" in alike
