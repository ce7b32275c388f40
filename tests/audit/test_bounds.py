"""Floors: closed forms, and how often exact unlearning really stays inside them."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ltu_jax.audit import attacks, bounds


def test_auc_band_has_the_exact_variance():
    """All orders of 2 forget and 3 test losses: the variance that the band's width stands for."""
    ranks = range(5)
    aucs = [
        attacks.loss_auc(np.array(forget), np.array([r for r in ranks if r not in forget]))
        for forget in combinations(ranks, 2)
    ]
    low, high = bounds.auc_floor_band(2, 3, alpha=0.5)
    assert (high - low) / 2 / stats.norm.isf(0.25) == pytest.approx(np.std(aucs))
    assert (low + high) / 2 == pytest.approx(50)


def test_auc_band_narrows_and_is_clipped():
    assert bounds.auc_floor_band(1, 1) == (0.0, 100.0)
    widths = [np.diff(bounds.auc_floor_band(n, n))[0] for n in (20, 200, 2000)]
    assert widths[0] > widths[1] > widths[2]
    assert np.diff(bounds.auc_floor_band(50, 80, alpha=0.01)) > np.diff(
        bounds.auc_floor_band(50, 80, alpha=0.1)
    )


@pytest.mark.parametrize(("n_forget", "n_test"), [(10, 15), (40, 120), (180, 300)])
def test_exact_unlearning_stays_inside(n_forget, n_test):
    """2,000 exchangeable draws: 95 % inside the AUC band, at least 95 % inside the ROC band."""
    rng = np.random.default_rng([n_forget, n_test])
    low, high = bounds.auc_floor_band(n_forget, n_test)
    inside_auc = inside_ks = inside_roc = 0
    draws = 2000
    for draw in range(draws):
        forget, test = np.split(rng.normal(size=n_forget + n_test), [n_forget])
        inside_auc += low <= attacks.loss_auc(forget, test) <= high
        inside_ks += attacks.ks_distance(forget, test) <= bounds.ks_floor(n_forget, n_test)
        if draw < 100:
            fpr, tpr = attacks.roc(forget, test)
            reach = bounds.ks_floor(n_forget, n_test) / 100
            inside_roc += np.all(np.abs(tpr - fpr) <= reach + 1e-12)
    # Four standard deviations of a binomial share around 95 % of 2,000 draws are 1.95 points.
    assert inside_auc / draws == pytest.approx(0.95, abs=0.0195)
    assert inside_ks / draws >= 0.95 - 0.0195
    assert inside_roc >= 86


def test_a_memorised_forget_set_is_outside():
    rng = np.random.default_rng(0)
    forget, test = rng.normal(-1, 1, 200), rng.normal(0, 1, 400)
    assert attacks.loss_auc(forget, test) > bounds.auc_floor_band(200, 400)[1]
    assert attacks.ks_distance(forget, test) > bounds.ks_floor(200, 400)


def test_ks_floor_is_kolmogorovs():
    """1.3581 is Kolmogorov's tabled 95 % point."""
    assert bounds.ks_floor(1000, 1000) == pytest.approx(135.81 * np.sqrt(2 / 1000), rel=1e-4)
    assert bounds.ks_floor(1, 1) == 100.0
