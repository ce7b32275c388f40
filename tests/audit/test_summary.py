"""Rows of the report's table: closed forms and the arithmetic of gaps."""

import json

import numpy as np
import pytest

from ltu_jax.audit import attacks, signals, summary
from ltu_jax.errors import DivergedError


def logits_with(confidences, correct):
    """Two-class logits, label 0, with these confidences in the label if correct, else in 1."""
    confidences = np.asarray(confidences)
    p = np.where(correct, confidences, 1 - confidences)
    return np.stack([np.log(p), np.log1p(-p)], axis=1)


@pytest.fixture
def sets():
    """Members at .99, test at .6 (60 % right), 10 of 16 of the forget set as members are."""
    sure, unsure = np.linspace(0.98, 0.995, 40), np.linspace(0.55, 0.65, 50)
    logits = {
        "forget": np.concatenate([logits_with(sure[:10], True), logits_with(unsure[:6], False)]),
        "retain": logits_with(sure, np.arange(40) < 38),
        "accessible": logits_with(sure[:10], True),
        "inaccessible": logits_with(sure[10:], np.arange(30) < 28),
        "test": logits_with(unsure, np.arange(50) < 30),
        "members": logits_with(sure[:20], True),
    }
    return logits, {name: np.zeros(len(values), int) for name, values in logits.items()}


def test_row_in_closed_form(sets):
    logits, labels = sets
    row = summary.evaluate("ltu", logits, labels, seconds=3)
    assert (row.model, row.seconds) == ("ltu", 3.0)
    assert row.ua == 37.5
    assert row.ra == pytest.approx(95.0)
    assert row.ta == pytest.approx(60.0)
    assert row.mia == 37.5
    assert (row.ra_accessible, row.ra_inaccessible) == (100.0, pytest.approx(100 * 28 / 30))
    assert (row.avg_gap, row.gaps) == (None, None)
    forget, test = (signals.loss(logits[name], labels[name]) for name in ("forget", "test"))
    wins = np.mean(forget[:, None] < test) + np.mean(forget[:, None] == test) / 2
    assert row.auc == pytest.approx(100 * wins)
    assert row.ks == pytest.approx(62.5)
    json.dumps(row._asdict())


def test_without_the_accuracies_apart(sets):
    logits, labels = sets
    whole = {"accessible": np.zeros((0, 2))}
    for name in ("accessible", "inaccessible"):
        del logits[name], labels[name]
    row = summary.evaluate("ltu", logits, labels, seconds=0)
    assert (row.ra_accessible, row.ra_inaccessible) == (None, None)
    row = summary.evaluate(
        "ltu", logits | whole, labels | {"accessible": np.zeros(0, int)}, seconds=0
    )
    assert row.ra_accessible is None


def test_attack_learns_from_equal_numbers(sets, monkeypatch):
    logits, labels = sets
    seen = []

    def record(members, nonmembers, forget):
        seen.append((members, nonmembers))
        return 0.0

    monkeypatch.setattr(attacks, "svc_mia", record)
    for seed in (0, 0, 1):
        summary.evaluate("ltu", logits, labels, seconds=0, seed=seed)
    confidences = signals.confidence(logits["test"], labels["test"])
    for members, nonmembers in seen:
        assert len(members) == len(nonmembers) == 20
        assert set(nonmembers) <= set(confidences)
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    assert set(seen[0][1]) != set(seen[2][1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_model(sets, bad):
    logits, labels = sets
    logits["test"][3, 1] = bad
    with pytest.raises(DivergedError, match="ltu: logits on the test"):
        summary.evaluate("ltu", logits, labels, seconds=0)


def row(model, ua, ra, ta, mia):
    return summary.Row(model, ua, ra, ta, mia, auc=50.0, ks=5.0, seconds=1.0)


def test_gaps():
    rows = [
        row("original", 1, 99, 60, 3),
        row("retrain", 40, 98, 59, 46),
        row("ltu", 45, 96, 59, 44),
    ]
    original, retrain, ltu = summary.with_gaps(rows)
    assert original.gaps == {"ua": -39, "ra": 1, "ta": 1, "mia": -43}
    assert original.avg_gap == 21.0
    assert retrain.gaps == {"ua": 0, "ra": 0, "ta": 0, "mia": 0}
    assert retrain.avg_gap == 0.0
    assert ltu.gaps == {"ua": 5, "ra": -2, "ta": 0, "mia": -2}
    assert ltu.avg_gap == 2.25
    assert [r._replace(gaps=None, avg_gap=None) for r in (original, retrain, ltu)] == rows


def test_no_reference_no_gaps():
    rows = [row("original", 1, 99, 60, 3), row("ltu", 45, 96, 59, 44)]
    assert summary.with_gaps(rows) == rows
