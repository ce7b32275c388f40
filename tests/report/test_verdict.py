"""The headline: where it says what, and that it never depends on the type of the request."""

import math

import pytest

from ltu_jax.report import noise
from ltu_jax.report.verdict import average_gap, loss_attack, verdict

from .conftest import make_content

REQUESTS = (
    {"type": "fraction", "fraction": 0.1, "seed": 0},
    {"type": "ids", "count": 1000, "sha256": "00"},
    {"type": "class", "value": ["cat"]},
    {"type": "group", "column": "site"},
)


def with_gaps(content, **gaps):
    """The content with other average gaps, by model."""
    rows = [{**row, "avg_gap": gaps.get(row["model"], row.get("avg_gap"))} for row in content.rows]
    return content._replace(rows=rows)


@pytest.mark.parametrize(
    ("auc", "level", "numbers"),
    [
        (51.2, "inside", "47.9 to 52.1"),
        (47.9, "inside", "47.9 to 52.1"),
        (56.5, "outside", "AUC is 56.5, above the 47.9 to 52.1"),
        (40.0, "outside", "AUC is 40.0, below the 47.9 to 52.1"),
        (math.nan, "unknown", ""),
    ],
)
def test_the_loss_attack_follows_the_interval_of_retrained_models(auc, level, numbers):
    finding = loss_attack(make_content(ltu_auc=auc))
    assert finding.level == level
    assert numbers in finding.sentence


def test_an_attack_that_misses_the_original_too_has_no_power():
    content = make_content(ltu_auc=51.0, auc_band=(40.0, 75.0))
    finding = loss_attack(content)
    assert finding.level == "powerless"
    assert "51.0" in finding.sentence
    assert "70.9" in finding.sentence
    assert loss_attack(make_content(ltu_auc=80.0, auc_band=(40.0, 75.0))).level == "outside"


@pytest.mark.parametrize(
    ("ltu", "original", "level"),
    [(1.0, 25.0, "inside"), (9.0, 25.0, "outside"), (1.0, 1.2, "powerless"), (9.0, 1.2, "outside")],
)
def test_the_average_gap_follows_its_floor_and_the_original(ltu, original, level):
    content = with_gaps(make_content(), ltu=ltu, original=original)
    finding = average_gap(content)
    assert finding.level == level
    assert f"{noise.floors(content)['avg_gap'].value:.1f}" in finding.sentence


def test_two_retrains_that_differ_more_than_everything_else_cannot_tell():
    content = with_gaps(
        make_content(ltu_auc=51.0, auc_band=(40.0, 75.0)), ltu=3.9, original=4.2, retrain_2=15.0
    )
    finding = verdict(content)
    assert finding.level == "powerless"
    assert finding.sentence.startswith("Cannot tell")
    assert "15.0" in finding.sentence


@pytest.mark.parametrize(
    ("ltu", "auc", "level"),
    [(1.0, 51.0, "inside"), (9.0, 51.0, "outside"), (1.0, 60.0, "outside")],
)
def test_one_finding_outside_decides(ltu, auc, level):
    assert verdict(with_gaps(make_content(ltu_auc=auc), ltu=ltu)).level == level


def test_a_difference_that_the_original_does_not_have_comes_from_unlearning():
    attack = loss_attack(make_content(ltu_auc=80.0, auc_band=(40.0, 75.0)))
    gap = average_gap(with_gaps(make_content(), ltu=9.0, original=1.2))
    for finding in (attack, gap):
        assert finding.level == "outside"
        assert "comes from unlearning itself" in finding.sentence
        assert "under-unlearned" not in finding.sentence


def test_what_is_missing_is_said():
    one = make_content(models=("original", "retrain", "ltu"), auc_band=None)
    assert verdict(one).level == "relative"
    assert "no second Retrain" in verdict(one).sentence
    none = make_content(models=("original", "ltu"), auc_band=None)
    assert verdict(none).level == "unknown"
    assert "no model was retrained" in verdict(none).sentence


@pytest.mark.parametrize(
    "models", [("original", "retrain", "retrain_2", "ltu"), ("original", "ltu")]
)
def test_the_type_of_the_request_changes_nothing(models):
    content = make_content(models=models, auc_band=(47.9, 52.1) if len(models) > 2 else None)
    assert len({verdict(content._replace(request=request)) for request in REQUESTS}) == 1


def test_floors_are_the_larger_of_a_second_retrain_and_chance():
    found = noise.floors(make_content())
    assert found["ua"].second == pytest.approx(1.6)
    # 1.96 sqrt(2 * .395 * .605 / 1000) = 4.28 points.
    assert found["ua"].value == found["ua"].chance == pytest.approx(4.28, abs=0.01)
    assert noise.half_width(50, 1) == 100
    assert noise.half_width(0, 3) == pytest.approx(100 * (1 - 0.025 ** (1 / 3)))
    assert noise.floors(make_content(models=("original", "ltu"))) == {}


def test_metrics_that_cannot_show_forgetting_are_named():
    assert noise.blind(make_content()) == ["ra", "ta"]
