"""Means and intervals are over training seeds, and labels say what a reader must know."""

import numpy as np
import pytest
import scipy

from ltu_jax.report.comparison import pareto, table

CONFIG = {
    "data": "digits",
    "train_size": None,
    "model": "mlp",
    "match": "none",
    "select": "oracle_free",
}


def row(method, seed, gap, *, repeat=0, failure=None, **more):
    value = None if failure else gap
    return {
        "method": method,
        "scenario": "class",
        "train_seed": seed,
        "unlearn_seed": repeat,
        "selected_by": "oracle_free",
        **dict.fromkeys(table.COLUMNS, value),
        "gaps": None if failure else dict.fromkeys(("ua", "ra", "ta", "mia"), -gap),
        "failure": failure,
        **more,
    }


ROWS = [
    *(row("retrain", seed, 0.0) for seed in range(3)),
    *(row("worse", seed, gap) for seed, gap in enumerate([5.0, 6.0, 7.0])),
    *(row("better", seed, gap) for seed, gap in enumerate([1.0, 2.0, 3.0])),
    row("better", 0, 2.0, repeat=1),
    row("broken", 0, 0.0, failure="loss became nan"),
]


def test_runs_of_a_seed_are_averaged_before_the_interval():
    better = table.summarise(ROWS, "class")[1]
    mean, low, high = better.values["avg_gap"]
    values = [1.5, 2.0, 3.0]
    wanted = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose([low, high], wanted)
    assert mean == pytest.approx(np.mean(values))
    assert better.seeds == 3
    assert better.values["gap_ua"].mean == pytest.approx(-np.mean(values))


def test_the_target_comes_first_and_failures_last():
    found = table.summarise(ROWS, "class")
    assert [summary.method for summary in found] == ["retrain", "better", "worse", "broken"]
    assert (found[-1].failed, found[-1].seeds) == (1, 0)


def test_a_choice_of_the_oracle_is_labelled_everywhere():
    rows = [{**r, "selected_by": "oracle"} if r["method"] == "better" else r for r in ROWS]
    page = table.markdown({"config": {**CONFIG, "select": "oracle"}, "rows": rows})
    assert "`better` (oracle)" in page
    assert "OPTIONS CHOSEN BY THE ORACLE" in page
    assert "oracle" not in table.markdown({"config": CONFIG, "rows": ROWS}).lower()


def test_one_seed_has_no_interval():
    page = table.markdown({"config": CONFIG, "rows": [row("retrain", 0, 0.0), row("a", 0, 2.5)]})
    assert "1 training seed," in page
    assert "| `a` | 2.5 (−2.5) |" in page
    assert "±" not in page


def test_the_front_holds_what_no_other_beats():
    points = np.array([[1.0, 1.0], [1.0, 1.0], [0.5, 3.0], [2.0, 0.5], [2.0, 1.5], [3.0, 3.0]])
    assert pareto.front_of(points).tolist() == [True, True, True, True, False, False]


def test_the_interval_is_students():
    mean, low, high = table.interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)  # t quantile of two degrees of freedom
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))
    assert table.interval([1.0])[1:] == (-np.inf, np.inf)
    assert np.isnan(table.interval([])).all()
