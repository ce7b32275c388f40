"""The numbers of an audit of outputs: every kind of outputs, and what is left out by name."""

import numpy as np
import pytest

from ltu_jax.audit import from_outputs, signals, summary
from ltu_jax.audit.outputs import collect
from tests.audit.outputs.made import ROWS, SIZES, arrays, softmax
from tests.refusals import refused


@pytest.fixture(scope="module")
def audited():
    return from_outputs(arrays())


def rows_of(name):
    return np.flatnonzero(arrays()["part"] == name)


def test_rows_are_those_of_the_definitions(audited):
    given = arrays()
    row = {one.model: one for one in audited.measured.rows}["unlearned"]
    right = given["unlearned"].argmax(1) == given["labels"]
    retain = np.r_[rows_of("retain"), rows_of("retain_unseen")]
    assert row.ua == 100 - 100 * right[rows_of("forget")].mean()
    assert row.ra == pytest.approx(100 * right[retain].mean())
    assert row.ra_accessible == 100 * right[rows_of("retain")].mean()
    assert row.ta == 100 * right[rows_of("test")].mean()
    assert set(row.gaps) == {"ua", "ra", "ta", "mia"}
    assert np.isnan(row.seconds)
    assert audited.measured.rows[0].model == "original"


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities", "logits"])
def test_kinds_are_found_and_give_the_same_numbers(audited, kind):
    change = {
        "probabilities": softmax,
        "log_probabilities": lambda z: np.log(softmax(z)),
        "logits": lambda z: np.asarray(z, np.float64) + 5,
    }[kind]
    names = ("original", "retrain", "retrain_2", "unlearned")
    found = from_outputs(arrays(**{name: change(arrays()[name]) for name in names}))
    assert found.kind == kind
    for one, other in zip(audited.measured.rows, found.measured.rows):
        assert one.ua == other.ua
        assert one.auc == pytest.approx(other.auc)
    one, other = audited.audit["population"][-1], found.audit["population"][-1]
    assert one["two_model"] == pytest.approx(other["two_model"])


@pytest.mark.parametrize("kind", ["confidence", "loss", "margin"])
def test_scores_of_the_true_class_are_enough_for_some_numbers(audited, kind):
    given = arrays()
    signal = getattr(signals, kind)
    names = ("original", "retrain", "retrain_2", "unlearned")
    scores = {name: signal(given[name], given["labels"]) for name in names}
    found = from_outputs(arrays("labels", **scores), kind=kind)
    for one, other in zip(audited.measured.rows, found.measured.rows):
        assert (other.auc, other.ks) == pytest.approx((one.auc, one.ks))
        assert other.mia == one.mia
        assert np.isnan([other.ua, other.ra, other.ta, other.avg_gap]).all()
    one, other = audited.audit["population"][-1], found.audit["population"][-1]
    assert other["two_model"] == pytest.approx(one["two_model"])
    assert other["svc_entropy"] is other["supervised"] is None
    assert found.audit["distances"] == []
    assert any("UA" in text for text in found.audit["left_out"])


def test_one_output_of_two_classes_is_that_of_class_1():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, ROWS)
    z = {name: rng.normal(size=ROWS) for name in ("original", "unlearned")}
    pairs = {name: np.stack([0 * one, one], 1) for name, one in z.items()}
    left = ("retrain", "retrain_2")
    one = from_outputs(arrays(*left, labels=labels, **z), kind="logits")
    two = from_outputs(arrays(*left, labels=labels, **pairs), kind="logits")
    assert repr(one.measured.rows) == repr(two.measured.rows)


@pytest.mark.parametrize(
    ("leave_out", "named"),
    [(("retrain", "retrain_2"), "Gaps"), (("retrain_2",), "noise floor"), ((), "ZRF")],
)
def test_what_cannot_be_said_is_left_out_by_name(leave_out, named):
    found = from_outputs(arrays(*leave_out))
    assert any(named in text for text in found.audit["left_out"])
    assert ("activation" in found.audit["distances"][0]) == ("retrain" not in leave_out)
    assert all((row.gaps is None) == ("retrain" in leave_out) for row in found.measured.rows)


@pytest.mark.slow
def test_more_retrained_models_have_rows_in_their_order():
    more = {f"retrain_{i}": arrays(seed=i)["retrain"] for i in (10, 3)}
    names = [row.model for row in from_outputs(arrays(**more)).measured.rows]
    assert names == ["original", "retrain", "retrain_2", "retrain_3", "retrain_10", "unlearned"]


@pytest.mark.slow
def test_an_untrained_model_gives_zrf():
    found = from_outputs(arrays(untrained=arrays(seed=5)["original"]))
    assert all(0 < row["zrf"] < 1 for row in found.audit["distances"])


def test_rows_may_be_named_in_place_of_parts(audited):
    rows = {name: rows_of(name) for name in SIZES}
    rows["test"] = arrays()["part"] == "test"
    found = from_outputs(arrays("part", **rows))
    assert repr(found.measured.rows) == repr(audited.measured.rows)


def test_large_sets_are_subsampled_for_attacks_only(monkeypatch, audited):
    monkeypatch.setattr(collect, "MOST", 20)
    found = from_outputs(arrays())
    assert len(found.warnings) == 2
    for one, other in zip(audited.measured.rows, found.measured.rows):
        assert (one.ua, one.ta, one.ra) == (other.ua, other.ta, other.ra)
    assert len(found.measured.signals["unlearned"]["test_loss"]) == 20


def ensembles(size=8, seed=0):
    rng = np.random.default_rng(seed)
    pairs = np.stack([rows_of("forget")[:20], rows_of("retain")[:20]], 1)
    bits = rng.integers(0, 2, (size, 20)).astype(bool)
    return {
        "ensemble_retrain": rng.normal(size=(size, ROWS, 3)),
        "ensemble_unlearned": rng.normal(size=(size, ROWS, 3)),
        "ensemble_shadow_unlearned": rng.normal(size=(2 * size, ROWS, 3)),
        "ensemble_shadow_unlearned_included": np.stack([bits, ~bits], 1).reshape(-1, 20),
        "pairs": pairs,
    }


def test_ensembles_give_tests_and_bounds():
    found = from_outputs(arrays(**ensembles()))
    assert set(found.audit["distinguishing"]) == {"unlearned", "retrain"}
    assert [test["name"] for test in found.audit["tests"]] == [
        "U-LiRA",
        "RMIA",
        "distinguishing attack",
    ]
    assert all(test["adjusted"] is not None for test in found.audit["tests"])
    assert any("noisy" in text for text in found.audit["left_out"])


@pytest.mark.slow
def test_a_trace_in_shadow_models_is_found():
    given = ensembles()
    outputs, bits = given["ensemble_shadow_unlearned"], given["ensemble_shadow_unlearned_included"]
    labels = arrays()["labels"]
    for pair, (first, second) in enumerate(given["pairs"]):
        outputs[bits[:, pair], first, labels[first]] += 8
        outputs[~bits[:, pair], second, labels[second]] += 8
    found = from_outputs(arrays(**given))
    tests = {test["name"]: test for test in found.audit["tests"]}
    assert tests["U-LiRA"]["adjusted"] < 0.01
    assert tests["U-LiRA"]["bound"]["epsilon"] > 0


@pytest.mark.slow
def test_reference_models_attack_every_model():
    rng = np.random.default_rng(0)
    labels, size = arrays()["labels"], 12
    included = rng.integers(0, 2, (size, ROWS)).astype(bool)
    included[:, rows_of("validation")] = False
    reference = rng.normal(size=(size, ROWS, 3))
    reference[..., :] += 6 * included[..., None] * np.eye(3)[labels]
    original = rng.normal(size=(ROWS, 3))
    original += 6 * (arrays()["part"] == "forget")[:, None] * np.eye(3)[labels]
    given = {"reference": reference, "reference_included": included, "original": original}
    rows = {row["model"]: row for row in from_outputs(arrays(**given)).audit["population"]}
    assert rows["original"]["reference_lira"] > 90
    assert rows["original"]["reference_rmia"] > 90
    assert 25 < rows["retrain"]["reference_lira"] < 75
    shuffled = np.random.default_rng(1).permutation(ROWS)
    some = {
        "reference": reference[:, shuffled],
        "reference_included": included[:, shuffled],
        "reference_rows": shuffled,
    }
    other = from_outputs(arrays(**{**given, **some})).audit["population"]
    assert other[0]["reference_lira"] == pytest.approx(rows["original"]["reference_lira"])


@pytest.mark.parametrize(
    "change",
    [
        {"ensemble_retrain": np.zeros((3, ROWS, 3))},
        {"ensemble_retrain": np.zeros((8, ROWS, 4))},
        {"ensemble_retrain": np.full((8, ROWS, 3), np.inf)},
        {"ensemble_retrain_rows": np.arange(5)},
        {"pairs": np.array([[0, 0]])},
        {"pairs": np.array([[0, ROWS]])},
        {"ensemble_shadow_unlearned_included": np.ones((16, 20), bool)},
        {"ensemble_shadow_unlearned_included": np.ones((16, 20), int)},
        {"ensemble_unlearned_noisy": np.zeros((8, 3))},
        {"reference": np.zeros((8, ROWS, 3))},
    ],
)
def test_ensembles_that_do_not_fit_are_refused(change):
    with refused("outputs"):
        from_outputs(arrays(**{**ensembles(), **change}))


@pytest.mark.slow
def test_exact_unlearning_is_rejected_no_more_often_than_alpha():
    """Models without a trace: a p-value below 0.05 in at most a fitting share of draws."""
    found = 0
    for seed in range(6):
        given = {n: v for n, v in ensembles(seed=seed).items() if "shadow" in n or n == "pairs"}
        tests = from_outputs(arrays("retrain", "retrain_2", **given)).audit["tests"]
        found += any(test["adjusted"] < 0.05 for test in tests)
    assert found <= 2


def test_the_scores_of_a_row_are_those_of_summary(audited):
    row = audited.measured.rows[-1]
    again = summary.row_of("unlearned", audited.measured.signals["unlearned"], seconds=0)
    assert (again.ua, again.mia, again.auc) == (row.ua, row.mia, row.auc)
