"""Triggered test inputs: checked when they are given, measured by the report."""

import json

import numpy as np
import pytest

import ltu_jax
from ltu_jax.data.arrays import take_train, validate
from ltu_jax.report import sentences
from tests import tiny
from tests.refusals import refused
from tests.report.conftest import make_content

INPUTS = np.ones((7, 6), np.float32)


@pytest.mark.parametrize("target", [1, np.int64(1), "ill"])
def test_the_target_is_an_index_or_a_name(target):
    data = tiny.table(triggered=(INPUTS, target))
    assert data.triggered.target == 1
    assert take_train(validate(data), np.arange(60)).triggered.inputs.shape == (7, 6)
    assert tiny.table().triggered is None


@pytest.mark.parametrize(
    ("triggered", "shown"),
    [
        (INPUTS, ["pair"]),
        ((INPUTS[:, :3], 1), ["float32[3]", "float32[6]"]),
        ((INPUTS.astype(np.uint8), 1), ["uint8"]),
        ((np.full((1, 6), np.nan, np.float32), 1), ["row 0"]),
        ((INPUTS[:0], 1), ["(0, 6)"]),
        ((INPUTS, 3), ["3", "0 to 2"]),
        ((INPUTS, "nobody"), ["'nobody'"]),
        ((INPUTS, True), ["True"]),
    ],
)
def test_bad_input_is_named(triggered, shown):
    with refused("triggered", *shown):
        tiny.table(triggered=triggered)


@pytest.mark.slow
def test_every_model_of_a_run_is_measured_and_reported(small_run):
    result = small_run(data=tiny.table(triggered=(INPUTS, "ill")), method="finetune", config=None)
    report = json.loads((result.folder / "report.json").read_text())
    rates = [row["attack_success"] for row in report["rows"]]
    assert rates == [row.attack_success for row in result.metrics.values()]
    assert all(rate in (0.0, 100.0) for rate in rates)  # all seven are the same
    page = (result.folder / "report.html").read_text()
    assert ">ASR<" in page
    assert "Share of triggered test inputs classified as the backdoor&#x27;s target" in page


def test_without_triggered_inputs_there_is_no_rate(complete):
    assert ">ASR<" not in (complete.folder / "report.html").read_text()
    assert complete.metrics["original"].attack_success is None
    assert sentences.backdoor(make_content().rows) == ""


def test_poisoned_rows_are_named_by_their_group():
    data = tiny.table(groups={"poisoned": np.arange(120) < 9})
    rows = ltu_jax.data.request.resolve(ltu_jax.by_group("poisoned", True), data)
    np.testing.assert_array_equal(rows, np.arange(9))
