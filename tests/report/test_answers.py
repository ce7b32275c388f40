"""The report says what was deleted, with which guarantee, and who could find what remains."""

import pytest

from ltu_jax.report.answers import answers, attacks, residual_risk, retrain_instead
from ltu_jax.report.html import render
from tests.report.audit.made_up_audit import make_audit
from tests.report.conftest import make_content


def with_run(content, **run):
    return content._replace(run={**content.run, **run})


def test_every_question_has_an_answer():
    found = answers(make_content())
    assert found.keys() == {
        "guarantee",
        "scope",
        "attacks",
        "residual_risk",
        "record",
        "retrain",
    }
    assert found["guarantee"]["type"] == "empirical"
    assert found["scope"]["covered"]
    assert len(found["scope"]["not_covered"]) == 5
    assert found["record"]["operator"] is None
    assert found["residual_risk"].count(".") == 1


@pytest.mark.parametrize(
    ("guarantee", "start"),
    [
        ({"type": "exact", "epsilon": None, "delta": None}, "Exact: "),
        ({"type": "certified", "epsilon": 0.5, "delta": 1e-5}, "Certified: with epsilon 0.5"),
        ({"type": "empirical", "epsilon": None, "delta": None}, "Empirical: "),
    ],
)
def test_the_guarantee_is_the_methods(guarantee, start):
    content = with_run(make_content(), guarantee=guarantee, operator="Privacy team")
    assert answers(content)["guarantee"]["sentence"].startswith(start)
    page = render(content, [])
    assert start in page
    assert "Privacy team" in page


def test_numbers_have_intervals_floor_and_power():
    loss, svc, two, lira, rmia = attacks(make_content()._replace(audit=make_audit()))
    for attack in (loss, svc, lira, rmia):
        low, high = attack["interval"]
        assert low <= attack["value"] <= high
        assert attack["retrained"][0] < attack["retrained"][1]
    assert loss["value"] == 56.5
    assert "AUC 70.9" in loss["power"]
    assert two["value"] == 64.1
    assert two["retrained"] == 65.8
    assert "epsilon 0.42" in lira["power"]


def test_what_was_not_measured_has_no_number():
    content = make_content(models=("original", "ltu"), auc_band=None)
    loss, svc, *others = attacks(content)
    assert loss["retrained"] is svc["retrained"] is None
    assert loss["power"].startswith("Unknown")
    assert [one["value"] for one in others] == [None] * 3
    assert "risk is unknown" in residual_risk(content)


def test_an_attack_that_sees_nothing_before_has_no_power():
    content = make_content(auc_band=(40.0, 80.0))
    assert attacks(content)[0]["power"].startswith("None here")


def test_risk_and_advice_follow_the_verdict():
    outside, inside = make_content(), make_content(ltu_auc=50.0)
    assert "differs measurably" in residual_risk(outside)
    assert "no better" in residual_risk(inside)
    assert retrain_instead(outside)[0].startswith("Retrain, or")
    assert len(retrain_instead(inside)) == 1
    exact = with_run(outside, guarantee={"type": "exact", "epsilon": None, "delta": None})
    assert "no more" in residual_risk(exact)
    assert len(retrain_instead(exact)) == 1
