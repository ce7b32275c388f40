"""Failure diagnostics of a run's history."""

import numpy as np

from ltu_jax.unlearners.ltu.diagnostics import diagnose, share_removed


def test_share_removed_is_that_of_the_projection():
    np.testing.assert_allclose(share_removed([0.5, 0.0, -0.6, -1.0]), [0, 0, 0.2, 1])


def test_failures_are_reported_and_sound_runs_are_not():
    sound = {"cosine": np.full(5, -0.3), "effective_models": np.full(5, 2.0)}
    assert diagnose(sound) == []
    assert diagnose({}) == []
    (opposed,) = diagnose({**sound, "cosine": np.full(5, -0.95)})
    assert "harmonisation" in opposed
    assert "69 %" in opposed
    (alike,) = diagnose({**sound, "effective_models": np.ones(5)})
    assert "same task" in alike
