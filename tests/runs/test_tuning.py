"""Options are chosen on data that no update saw, and every trial is recorded."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax import unlearners
from ltu_jax.data.request import by_group
from ltu_jax.errors import DivergedError, InputError
from ltu_jax.runs import plan as plans
from ltu_jax.runs import tuning
from ltu_jax.runs.models import train_model
from ltu_jax.runs.spec import check_trials
from ltu_jax.types import Examples, Invariants, UnlearnData
from ltu_jax.unlearners.base import Choice, LogUniform, Method, one_shot
from tests import tiny
from tests.runs.test_plan import make


@dataclass(frozen=True)
class ScaleConfig:
    scale: float = 1.0


def scaled(model, spec, config):
    """A method that multiplies all weights: 0.2 blurs, 1.001 leaves as it is, inf breaks."""

    def prepare(key, variables, data):
        return variables._replace(params=jax.tree.map(lambda x: x * config.scale, variables.params))

    return one_shot(prepare, Invariants())


SPACE = {"scale": Choice((0.2,))}


@pytest.fixture
def method(monkeypatch):
    def register(space=SPACE, config=ScaleConfig(1.001)):
        entry = Method("scaled", "scales", "none", scaled, config, space)
        monkeypatch.setitem(unlearners.METHODS, "scaled", entry)
        return entry

    return register


@pytest.fixture(scope="module")
def trained():
    plan = make(forget=tiny.FORGOTTEN, method="finetune", config=None, epochs=20)
    return plan, train_model(plan, "original").variables


def run(trained, **options):
    plan, original = trained
    plan = plans.with_method(plan, "scaled", None)
    return tuning.select(plan, original, **options)


def test_trials_start_from_the_defaults_and_follow_from_seed_and_name():
    entry = unlearners.METHODS["finetune"]
    draws = tuning.draw_options(entry, 8, seed=0)
    assert draws == tuning.draw_options(entry, 8, seed=0)
    assert draws != tuning.draw_options(entry, 8, seed=1)
    assert len(draws) == 8
    assert draws[0] == {}
    assert all(options.keys() == entry.space.keys() for options in draws[1:])
    for options in draws:
        unlearners.configure(entry, options)
    rates = np.log([options["learning_rate"] for options in draws[1:]])
    low, high = np.log([entry.space["learning_rate"].low, entry.space["learning_rate"].high])
    # One of the seven in each seventh of the range.
    assert sorted(((rates - low) / (high - low) * 7).astype(int)) == list(range(7))
    assert tuning.draw_options(unlearners.METHODS["nothing"], 8, seed=0) == [{}]


def test_every_method_accepts_what_its_space_draws():
    for entry in unlearners.METHODS.values():
        for options in tuning.draw_options(entry, 20, seed=3):
            config = unlearners.configure(entry, options)
            assert {name: getattr(config, name) for name in options} == options


def test_shares_are_places_in_the_range():
    rates, several = LogUniform(1e-3, 1e-1), Choice((1, 2, 3))
    np.testing.assert_allclose([rates.at(x) for x in (0, 0.5, 1)], [1e-3, 1e-2, 1e-1])
    assert [several.at(x) for x in (0, 0.34, 0.67, 0.999)] == [1, 2, 3, 3]


def numbered(size, first):
    return Examples(jnp.arange(first, first + size), jnp.arange(size) % 3)


def test_what_is_held_back_is_in_no_update():
    data = UnlearnData(numbered(7, 0), numbered(35, 100), numbered(20, 1000))
    seen, held = tuning.hold_back(data, seed=0)
    assert (len(held.probe.labels), len(held.validation.labels)) == (3, 6)
    for kept, away, whole in (
        (seen.retain, held.probe, data.retain),
        (seen.validation, held.validation, data.validation),
    ):
        both = np.concatenate([kept.inputs, away.inputs])
        assert sorted(both.tolist()) == whole.inputs.tolist()
    np.testing.assert_array_equal(seen.forget.inputs, data.forget.inputs)
    again, _ = tuning.hold_back(data, seed=0)
    np.testing.assert_array_equal(again.retain.inputs, seen.retain.inputs)


@pytest.mark.parametrize(
    ("retain", "validation", "argument"), [(9, 20, "retain_fraction"), (35, 2, "data")]
)
def test_too_little_to_hold_back_is_refused(retain, validation, argument):
    data = UnlearnData(numbered(7, 0), numbered(retain, 100), numbered(validation, 1000))
    with pytest.raises(InputError) as refused:
        tuning.hold_back(data, seed=0)
    assert refused.value.argument == argument


def test_non_members_are_matched_class_by_class():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6]]))
    heldout = np.array([0, 1, 1, 2])
    labels = np.array([1, 1, 1, 0])
    values, weights = tuning.matched_confidence(labels, logits, heldout, np.array([True] * 3))
    np.testing.assert_allclose(values, [0.7, 0.8, 0.5])
    np.testing.assert_allclose(weights, [1, 1.5, 1.5])
    # Class 1 is forgotten whole: the others serve under its label.
    kept = np.array([True, False, True])
    values, weights = tuning.matched_confidence(labels, logits, heldout, kept)
    np.testing.assert_allclose(values, [0.7, 0.2, 0.2])
    np.testing.assert_allclose(weights, [1, 1.5, 1.5])
    # Validation lacks class 2: all others, under their own labels.
    values, _ = tuning.matched_confidence(
        np.array([2]), logits[:3], heldout[:3], np.array([True] * 3)
    )
    np.testing.assert_allclose(values, [0.7, 0.8, 0.5])


def test_the_score_is_that_of_the_definition():
    data = UnlearnData(*(Examples(x, y) for x, y in ONE_HOT))
    held = tuning.HeldBack(data.retain, data.validation)
    model = SimpleNamespace(apply=lambda variables, inputs: (inputs * variables, None))
    certain = tuning.score_model(model, 50.0, data, held, (100.0, 100.0))
    assert certain.mismatch == pytest.approx(0, abs=1e-6)
    assert certain.total == pytest.approx(0, abs=1e-6)
    # Forget examples are answered wrongly with certainty, all others as before.
    wrong = data._replace(forget=Examples(-data.forget.inputs, data.forget.labels))
    score = tuning.score_model(model, 50.0, wrong, held, (100.0, 100.0))
    assert score.mismatch == pytest.approx(100, abs=1e-6)
    assert score.validation_drop == score.probe_drop == 0
    score = tuning.score_model(model, -50.0, data, held, (100.0, 90.0))
    assert (score.validation_drop, score.probe_drop) == (100, 90)
    assert score.total == pytest.approx((2 * score.mismatch + 190) / 4)


ONE_HOT = [(jnp.eye(3), jnp.arange(3))] * 3


def test_the_smallest_score_is_chosen_and_everything_is_recorded(trained, method):
    method()
    numbers = []
    found = run(trained, trials=3, on_trial=lambda number, trial: numbers.append(number))
    totals = [trial.score.total for trial in found.trials]
    assert numbers == [0, 1, 2]
    assert found.chosen == int(np.argmin(totals))
    assert found.options == found.trials[found.chosen].options
    about = found.describe()
    assert about["rule"] == "oracle_free"
    assert about["space"] == {"scale": {"Choice": [0.2]}}
    assert [trial["score"]["total"] for trial in about["trials"]] == totals
    assert about["trials"][0]["gap"] is None


def test_the_oracle_decides_and_is_named(trained, method):
    method()
    gaps = iter([3.0, 1.0, 2.0])
    found = run(trained, trials=3, oracle=lambda network: next(gaps))
    assert found.chosen == 1
    assert found.rule == "oracle"
    assert [trial.gap for trial in found.trials] == [3.0, 1.0, 2.0]


def test_a_failed_trial_is_recorded_and_never_chosen(trained, method):
    method({"scale": Choice((float("inf"),))})
    found = run(trained, trials=2)
    assert found.chosen == 0
    assert found.trials[1].score is None
    assert "not finite" in found.trials[1].failure
    method({}, ScaleConfig(1.0))
    with pytest.raises(DivergedError, match="all 1 trials of scaled failed: no parameter changed"):
        run(trained, trials=2)


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        ((0, "oracle_free"), "trials"),
        ((8, "magic"), "select"),
        ((8, "oracle", "none"), "select"),
    ],
)
def test_bad_choices_are_refused(values, argument):
    with pytest.raises(InputError) as refused:
        check_trials(*values)
    assert refused.value.argument == argument


@pytest.mark.slow
def test_a_distinct_subpopulation_is_compared_with_a_reference_model():
    plan = tiny.plan(tiny.two_sites(), by_group("site", "south"), retain_fraction=1.0)
    original = train_model(plan, "original").variables
    visible = plans.visible_data(plan.dataset, plan.split)
    data, held = tuning.hold_back(visible, seed=0)
    compared = tuning.with_reference(plan.model, original, data, held, seed=0)
    inputs = np.asarray(compared.validation.inputs)
    assert (inputs[:, 1] < 2).mean() > 0.9 > (np.asarray(held.validation.inputs)[:, 1] < 2).mean()
    assert (compared.reference.argmax(1) != np.asarray(data.forget.labels)).mean() > 0.9
    scores = {
        name: tuning.score_model(
            plan.model, train_model(plan, name).variables, data, compared, (100.0, 100.0)
        )
        for name in ("original", "retrain")
    }
    assert scores["retrain"].total < 5 < scores["original"].total
    plain = tuning.score_model(plan.model, original, data, held, (100.0, 100.0))
    assert plain.total < 5  # held-out examples do not reveal it


def test_a_random_forget_set_needs_no_reference_model(trained):
    plan, original = trained
    data, held = tuning.hold_back(plans.visible_data(plan.dataset, plan.split), seed=0)
    assert tuning.with_reference(plan.model, original, data, held, seed=0) is held


@pytest.mark.parametrize(
    ("rule", "gaps", "failed", "expected"),
    [
        ("oracle_free", (None, None), None, (2.0, 5.0)),
        ("oracle_free", (None, None), "became NaN", (2.0, None)),
        ("oracle", (1.5, 0.5), None, (0.5, 1.5)),
    ],
)
def test_the_outcome_is_compared_with_the_defaults(rule, gaps, failed, expected):
    trials = [
        {"score": None if failed else {"total": 5.0}, "gap": gaps[0], "failure": failed},
        {"score": {"total": 2.0}, "gap": gaps[1], "failure": None},
    ]
    described = {"rule": rule, "trials": trials, "chosen": 1, "options": {"steps": 3}}
    found = tuning.outcome(described)
    assert (found["score"], found["default"]) == expected
    assert (found["trial"], found["trials"], found["failed"]) == (2, 2, int(failed is not None))
