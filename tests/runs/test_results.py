"""The report's content says what was run, on what, and what its attacks saw."""

import numpy as np
import pytest

import ltu_jax
from ltu_jax.audit import bounds
from ltu_jax.audit.measure import measure_models
from ltu_jax.data.request import resolve
from ltu_jax.report import verdict
from ltu_jax.runs.results import made_by, report_content
from ltu_jax.unlearners import METHODS
from tests.audit.test_measure import network, numbered, plan_of


def content_of(forget, models=("original", "ltu"), **options):
    plan = plan_of(forget, **options)
    made = {name: network(seed) for seed, name in enumerate(models)}
    measured = measure_models(plan.problem, made, lambda done: None)
    history = {"cosine": np.array([0.5, -0.5, 0.0], np.float32)}
    return plan, report_content(plan, measured, history, "ltu unlearn --seed 0")


RETRAINED = ("original", "retrain", "retrain_2", "ltu")


def test_the_band_of_chance_comes_from_the_models_retrained_on_the_request():
    _, content = content_of(ltu_jax.by_class(1), RETRAINED)
    scores = [
        (-content.signals[name]["forget_loss"], -content.signals[name]["test_loss"])
        for name in ("retrain", "retrain_2")
    ]
    assert content.auc_band == bounds.retrained_auc_band(*scores)
    for fewer in (("original", "retrain", "ltu"), ("original", "ltu")):
        assert content_of(ltu_jax.by_class(1), fewer)[1].auc_band is None


@pytest.mark.parametrize("models", [RETRAINED, ("original", "retrain", "ltu"), ("original", "ltu")])
def test_the_same_rows_have_the_same_headline_however_they_were_requested(models):
    data = plan_of().dataset
    draw = ltu_jax.by_fraction(0.1)
    drawn = resolve(draw, data)
    grouped = numbered()._replace(groups={"drawn": np.isin(np.arange(120), drawn).astype(int)})
    requests = [draw, ltu_jax.by_ids(data.train_ids[drawn]), ltu_jax.by_group("drawn", 1)]
    contents = [content_of(request, models, data=grouped)[1] for request in requests]
    assert len({verdict(content) for content in contents}) == 1
    assert len({content.auc_band for content in contents}) == 1


def test_the_report_says_what_was_run():
    plan, content = content_of(ltu_jax.by_class(1))
    assert content.run == {
        "guarantee": {"type": "empirical", "epsilon": None, "delta": None},
        "operator": None,
        "data": "numbered",
        "model": "oracle",
        "method": "ltu",
        "uses_validation": True,
        "options_chosen": "default",
        "seeds": {"run": 0},
        "made_by": content.run["made_by"],
        "given_accuracy": None,
        "preprocessing": "inputs as they are in the data set",
        "warnings": list(plan.warnings),
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


def test_the_report_says_whose_recipe_made_each_model():
    plan = plan_of(reference="retrain", epochs=None)
    usual = made_by(plan)
    assert list(usual) == ["original", "retrain", "retrain_2"]
    assert len(set(usual.values())) == 1
    assert "library's recipe" in usual["retrain"]
    own = made_by(plan._replace(recipe=ltu_jax.Recipe(epochs=7)))
    assert "you gave (7 epochs" in own["retrain"]
    given = made_by(plan._replace(original=network(0).variables))
    assert given["original"].startswith("yours")
    assert "trained from scratch" in given["retrain"]
    following = made_by(plan._replace(original=network(0).variables, earlier=plan.dataset.train))
    assert "request before" in following["original"]
    assert list(made_by(plan_of(reference="none"))) == ["original"]


def test_only_methods_with_membership_models_share_features_with_the_attacks():
    _, matching = content_of(None)
    _, other = content_of(None, method="finetune", config=None)
    assert all(attack["shares_features"] for attack in matching.attacks)
    assert not any(attack["shares_features"] for attack in other.attacks)
    assert "membership model" not in " ".join(attack["sentence"] for attack in other.attacks)


def test_the_report_says_whether_attack_members_had_been_seen():
    _, unseen = content_of(None)
    _, seen = content_of(None, retain_fraction=1.0)
    assert not unseen.attacks[0]["shares_data"]
    assert "never saw" in unseen.attacks[0]["data"]
    assert seen.attacks[0]["shares_data"]
    assert "accessible retain" in seen.attacks[0]["data"]


@pytest.mark.parametrize(
    ("method", "expected"), [("finetune", "empirical"), ("retrain_accessible", "exact")]
)
def test_the_guarantee_is_that_of_the_method(method, expected):
    plan = plan_of(method=method, config=METHODS[method].config)
    measured = measure_models(plan.problem, {"original": network(0)}, lambda done: None)
    content = report_content(plan, measured, {}, "ltu unlearn")
    assert content.run["guarantee"]["type"] == expected
