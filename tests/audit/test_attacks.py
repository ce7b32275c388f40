"""Population attacks: golden runs of the released SVC-MIA, scikit-learn's AUC, invariances."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import auc, roc_auc_score

from ltu_jax.audit import attacks, signals

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN_DIR = REPOSITORY / os.environ.get("LTU_GOLDEN_DIR", "../shared/golden")
GOLDEN = GOLDEN_DIR / f"svc_mia_{os.environ.get('LTU_GOLDEN_SUFFIX', 'open')}.npz"

SIGNALS = {
    "correctness": signals.correctness,
    "confidence": signals.confidence,
    "entropy": lambda logits, labels: signals.entropy(logits),
    "m_entropy": lambda logits, labels: signals.modified_entropy(
        logits, labels, variant="salun-2024"
    ),
    "prob": lambda logits, labels: np.exp(signals.log_softmax(logits)),
}


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"no golden cases at {GOLDEN}")
    with np.load(GOLDEN) as cases:
        return dict(cases)


@pytest.mark.parametrize("forget", ["forget", "forget_class"])
@pytest.mark.parametrize("name", SIGNALS)
def test_svc_mia_as_released(golden, name, forget):
    members, nonmembers, forgotten = (
        SIGNALS[name](golden[f"logits_{part}"], golden[f"labels_{part}"])
        for part in ("shadow_train", "shadow_test", forget)
    )
    expected = 100 * golden[f"out_{forget}_efficacy_{name}"]
    actual = attacks.svc_mia(members, nonmembers, forgotten)
    # One example on the other side of the boundary is what float32 features can do.
    assert actual == pytest.approx(expected, abs=100 / len(forgotten) + 1e-9)


@pytest.mark.parametrize("part", ["shadow_train", "shadow_test", "forget", "forget_class"])
def test_features_as_released(golden, part):
    logits, labels = golden[f"logits_{part}"], golden[f"labels_{part}"]
    features = {
        "entropy": signals.entropy(logits),
        "m_entropy_asreleased": signals.modified_entropy(logits, labels, variant="salun-2024"),
        "m_entropy_songmittal": signals.modified_entropy(logits, labels),
    }
    for name, actual in features.items():
        if f"feat_{part}_{name}" in golden:
            np.testing.assert_allclose(
                actual, golden[f"feat_{part}_{name}"], rtol=1e-5, atol=1e-6, err_msg=name
            )


def test_svc_mia_on_separated_scores():
    members, nonmembers = np.linspace(0.9, 1.0, 20), np.linspace(0.0, 0.1, 20)
    assert attacks.svc_mia(members, nonmembers, members) == 0.0
    assert attacks.svc_mia(members, nonmembers, nonmembers) == 100.0
    half = np.concatenate([members[:5], nonmembers[:5]])
    assert attacks.svc_mia(members, nonmembers, half) == 50.0


samples = arrays(np.float64, st.integers(1, 30), elements=st.integers(-5, 5).map(float))


@given(samples, samples)
def test_loss_auc_is_sklearns_and_blind_to_monotone_maps(forget, test):
    actual = attacks.loss_auc(forget, test)
    is_forget = np.repeat([1, 0], [len(forget), len(test)])
    expected = 100 * roc_auc_score(is_forget, -np.concatenate([forget, test]))
    assert actual == pytest.approx(expected, abs=1e-9)
    assert attacks.loss_auc(np.exp(forget), np.exp(test)) == actual
    assert attacks.loss_auc(3 * forget - 7, 3 * test - 7) == actual
    assert attacks.loss_auc(test, forget) == pytest.approx(100 - actual)


def test_loss_auc_closed_forms():
    assert attacks.loss_auc(np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.5])) == 100.0
    assert attacks.loss_auc(np.array([0.3]), np.array([0.1, 0.2])) == 0.0
    assert attacks.loss_auc(np.array([1.0, 1.0]), np.array([1.0])) == 50.0
    assert attacks.loss_auc(np.array([0.0, 2.0]), np.array([1.0, 2.0])) == 62.5


@given(samples, samples)
def test_roc_holds_the_auc_and_the_ks_distance(forget, test):
    fpr, tpr = attacks.roc(-forget, -test)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert 100 * auc(fpr, tpr) == pytest.approx(attacks.loss_auc(forget, test), abs=1e-9)
    distance = attacks.ks_distance(forget, test)
    assert 100 * np.max(np.abs(tpr - fpr)) == pytest.approx(distance, abs=1e-9)


def test_ks_distance_closed_forms():
    first, second = np.split(np.random.default_rng(0).normal(size=130), [50])
    expected = 100 * stats.ks_2samp(first, second).statistic
    assert attacks.ks_distance(first, second) == pytest.approx(expected)
    assert attacks.ks_distance(np.arange(5), np.arange(5)) == 0.0
    assert attacks.ks_distance(np.arange(5), np.arange(5) + 10) == 100.0
    assert attacks.ks_distance(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 50.0
