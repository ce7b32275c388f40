"""The report's content says what was run, on what, and what its attacks saw."""

import numpy as np
import pytest

import ltu_jax
from ltu_jax.audit import bounds
from ltu_jax.audit.measure import measure_models
from ltu_jax.runs.results import report_content
from tests.audit.test_measure import network, plan_of


def content_of(forget, **options):
    plan = plan_of(forget, **options)
    measured = measure_models(
        plan.problem, {"original": network(0), "ltu": network(1)}, lambda done: None
    )
    history = {"cosine": np.array([0.5, -0.5, 0.0], np.float32)}
    return plan, report_content(plan, measured, history, "ltu unlearn --seed 0")


@pytest.mark.parametrize("forget", [ltu_jax.by_fraction(0.1), ltu_jax.by_ids(range(5))])
def test_a_forget_set_that_may_be_a_random_sample_gets_a_band_of_chance(forget):
    plan, content = content_of(forget)
    sizes = (len(plan.split.forget), len(plan.split.test))
    assert content.auc_band == bounds.auc_floor_band(*sizes)
    assert content.roc_band == bounds.ks_floor(*sizes)


@pytest.mark.parametrize("forget", [ltu_jax.by_class(1), ltu_jax.by_group("half", 1)])
def test_a_class_or_group_gets_none(forget):
    _, content = content_of(forget)
    assert content.auc_band is None
    assert content.roc_band is None


def test_the_report_says_what_was_run():
    plan, content = content_of(ltu_jax.by_class(1))
    assert content.run == {
        "data": "numbered",
        "model": "oracle",
        "method": "ltu",
        "uses_validation": True,
        "options_chosen": "default",
        "seeds": {"run": 0},
        "warnings": [],
        "signs": [],
        "command": "ltu unlearn --seed 0",
        "sizes": {
            "train": 120,
            "forget": 40,
            "retain": 80,
            "accessible": 24,
            "validation": 24,
            "test": 36,
        },
    }
    assert content.request == {"type": "class", "value": ["1"]}
    assert content.config["ltu"]["query_size"] == plan.config.query_size
    assert content.config["training"]["epochs"] == plan.recipe.epochs
    assert content.history == {"step": [0, 1, 2], "cosine": [0.5, -0.5, 0.0]}
    assert content.class_names == ("0", "1", "2")


def test_the_report_says_whether_attack_members_had_been_seen():
    _, unseen = content_of(None)
    _, seen = content_of(None, retain_fraction=1.0)
    assert not unseen.attacks[0]["shares_data"]
    assert "never saw" in unseen.attacks[0]["data"]
    assert seen.attacks[0]["shares_data"]
    assert "accessible retain" in seen.attacks[0]["data"]
