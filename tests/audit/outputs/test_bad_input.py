"""Outputs that are refused before any attack, and the argument that each names."""

import numpy as np
import pytest

from ltu_jax.audit import from_outputs
from tests.audit.outputs.made import ROWS, arrays, softmax
from tests.refusals import refused

GIVEN = arrays()


def with_value(value, row=7):
    changed = GIVEN["unlearned"].copy()
    changed[row, 1] = value
    return changed


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"unlearned": with_value(np.nan)}, "row 7"),
        ({"unlearned": with_value(np.inf)}, "row 7"),
        ({"unlearned": with_value(-np.inf)}, "infinity"),
        ({"unlearned": GIVEN["unlearned"][:, :2]}, "classes"),
        ({"unlearned": GIVEN["unlearned"][:-1]}, "rows"),
        ({"unlearned": GIVEN["unlearned"].astype(int)}, "int"),
        ({"unlearned": GIVEN["unlearned"].astype(complex)}, "complex"),
        ({"unlearned": [[0.1, 0.2], [0.3]]}, "lengths"),
        ({"unlearned": np.array([[None] * 3] * ROWS)}, "objects"),
        ({"original": np.zeros((0, 3))}, "(0, 3)"),
        ({"original": np.zeros((ROWS, 3, 1))}, "3, 1"),
        ({"labels": np.full(ROWS, 3)}, "0 to 2"),
        ({"labels": np.full(ROWS, -1)}, "-1"),
        ({"labels": np.full(ROWS, 0.5)}, "0.5"),
        ({"labels": np.full(ROWS, np.nan)}, "nan"),
        ({"labels": np.array(["cat"] * ROWS)}, "index"),
        ({"labels": np.zeros(3, int)}, "(3,)"),
        ({"part": np.array(["forgot"] * ROWS)}, "'forget'"),
        ({"part": np.array(["forget"] * ROWS)}, "retain"),
        ({"part": np.zeros(ROWS, int)}, "text"),
        ({"part": GIVEN["part"][:4]}, "(4,)"),
        ({"forget": np.arange(3)}, "both"),
        ({"orignal": GIVEN["original"]}, "'original'"),
        ({"retrian": GIVEN["original"]}, "'retrain'"),
        ({"xyz": GIVEN["original"]}, "xyz"),
        ({"id": np.zeros(ROWS, int)}, "1 ids"),
        ({"id": np.arange(5)}, "(5,)"),
        ({"about": "not JSON"}, "JSON"),
        ({"about": {"data": 3}}, "'data'"),
        ({"about": {"colour": "red"}}, "colour"),
        ({"about": {"class_names": ["a", "b"]}}, "3 names"),
        ({"about": {"class_names": ["a", "b", 3]}}, "3 names"),
        ({"about": {"seconds": {"original": "long"}}}, "seconds"),
    ],
)
def test_bad_arrays_are_refused(change, shown):
    with refused("outputs", shown):
        from_outputs(arrays(**change))


@pytest.mark.parametrize(
    ("leave_out", "shown"),
    [
        (("original",), "'original'"),
        (("unlearned",), "'unlearned'"),
        (("labels",), "'labels'"),
        (("part",), "'part'"),
        (("retrain",), "'retrain_2'"),
        (tuple(GIVEN), "original"),
    ],
)
def test_missing_arrays_are_named(leave_out, shown):
    with refused("outputs", shown):
        from_outputs(arrays(*leave_out))


@pytest.mark.parametrize(
    "rows",
    [
        {"forget": np.arange(10), "retain": np.arange(10, 50), "test": np.arange(9, 20)},
        {"forget": np.arange(10), "retain": np.arange(10, 50), "test": np.array([60, 60])},
        {"forget": np.arange(10), "retain": np.arange(10, 50), "test": np.array([60, ROWS])},
        {"forget": np.arange(10), "retain": np.arange(10, 50), "test": np.array([60.0, 61.0])},
        {"forget": np.array([], int), "retain": np.arange(10, 50), "test": np.arange(60, 70)},
        {"forget": np.arange(10), "retain": np.arange(10, 50), "test": np.array([60])},
    ],
)
def test_bad_rows_of_parts_are_refused(rows):
    with refused("outputs"):
        from_outputs(arrays("part", **rows))


def all_models(change):
    return {n: change(GIVEN[n]) for n in ("original", "retrain", "retrain_2", "unlearned")}


@pytest.mark.parametrize(
    ("change", "kind", "argument"),
    [
        (all_models(lambda z: 0.9 * softmax(z)), "auto", "kind"),
        (all_models(lambda z: 0.9 * softmax(z)), "probabilities", "outputs"),
        ({}, "probabilities", "outputs"),
        ({}, "log_probabilities", "outputs"),
        ({"unlearned": softmax(GIVEN["unlearned"])}, "auto", "kind"),
        (all_models(lambda z: z[:, 0]), "auto", "kind"),
        (all_models(lambda z: z[:, 0]), "loss", "outputs"),
        (all_models(lambda z: z[:, 0]), "confidence", "outputs"),
        ({}, "loss", "kind"),
        ({}, "logit", "kind"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(change, kind, argument):
    with refused(argument):
        from_outputs(arrays(**change), kind=kind)


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"alpha": 0}, "alpha"), ({"seed": 0.5}, "seed"), ({"seed": 2**40}, "seed")],
)
def test_bad_options_are_refused(options, argument):
    with refused(argument):
        from_outputs(arrays(), **options)


def test_one_row_is_refused():
    one = {name: value[:1] for name, value in GIVEN.items()}
    with refused("outputs"):
        from_outputs(one)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (all_models(lambda z: z.astype(np.float16)), 4),
        (all_models(lambda z: np.eye(3)[z.argmax(1)]), 4),
        ({"part": np.r_[["forget"], ["retain"] * 100, ["test"] * (ROWS - 101)]}, 1),
        ({}, 0),
    ],
)
def test_what_may_be_a_mistake_is_warned_of(change, count):
    found = from_outputs(arrays(**change))
    assert len(found.warnings) == count
    assert np.isfinite([row.auc for row in found.measured.rows]).all()
