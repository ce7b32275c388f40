"""Signals against their definitions in exact arithmetic, and where rounding would bite."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltu_jax.audit import signals


def by_definition(logits, label):
    """Every signal of one example in 60 digits."""
    with localcontext(prec=60):
        weights = [Decimal(float(z)).exp() for z in logits]
        p = [w / sum(weights) for w in weights]
        rest = [(sum(weights) - w) / sum(weights) for w in weights]
        others = [k for k in range(len(p)) if k != label]
        return {
            "confidence": p[label],
            "loss": -p[label].ln(),
            "entropy": -sum(q * q.ln() for q in p),
            "margin": p[label].ln() - rest[label].ln(),
            "modified_entropy": -rest[label] * p[label].ln()
            - sum(p[k] * rest[k].ln() for k in others),
        }


def by_library(logits, label):
    logits, labels = np.array([logits]), np.array([label])
    return {
        "confidence": signals.confidence(logits, labels)[0],
        "loss": signals.loss(logits, labels)[0],
        "entropy": signals.entropy(logits)[0],
        "margin": signals.margin(logits, labels)[0],
        "modified_entropy": signals.modified_entropy(logits, labels)[0],
    }


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.data())
def test_definitions(logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    expected, actual = by_definition(logits, label), by_library(logits, label)
    for name, value in expected.items():
        assert actual[name] == pytest.approx(float(value), rel=1e-10, abs=1e-13), name


@pytest.mark.parametrize("label", [0, 1])
def test_memorised_examples_keep_their_differences(label):
    """With p_y = 1 - 1e-26 a rounded probability would tell loss 0 and margin infinity."""
    for gap in (60.0, 61.0):
        logits = [gap, 0.0, -1.0]
        expected, actual = by_definition(logits, label), by_library(logits, label)
        for name, value in expected.items():
            assert actual[name] == pytest.approx(float(value), rel=1e-12), name


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0.0], [3e38, -3e38, 0.0]], np.float32)
    for label in range(3):
        labels = np.full(2, label)
        for signal in (signals.loss, signals.margin, signals.confidence, signals.modified_entropy):
            assert np.isfinite(signal(logits, labels)).all()
        assert np.isfinite(signals.entropy(logits)).all()


def test_uniform_prediction():
    logits, labels = np.full((4, 5), 2.5), np.arange(4)
    np.testing.assert_allclose(signals.log_softmax(logits), -math.log(5))
    np.testing.assert_allclose(signals.entropy(logits), math.log(5))
    np.testing.assert_allclose(signals.margin(logits, labels), -math.log(4))
    np.testing.assert_allclose(
        signals.modified_entropy(logits, labels), 0.8 * math.log(5) + 0.8 * math.log(5 / 4)
    )


def test_correctness():
    logits = np.array([[1.0, 3.0], [2.0, 0.0], [0.0, 5.0]])
    assert signals.correctness(logits, np.array([1, 1, 1])).tolist() == [1.0, 0.0, 1.0]
