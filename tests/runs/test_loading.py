"""A finished run read back is the run that was made, or it is refused."""

import json
import math

import jax
import numpy as np
import pytest

import ltu_jax
import ltu_jax.data.request as requests
from ltu_jax import unlearners
from ltu_jax.errors import InputError
from ltu_jax.files import write_checksummed
from ltu_jax.models import from_functions
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_models, load_plan, save_plan
from ltu_jax.runs.plan import changed_options
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.training.checkpoint import export
from ltu_jax.unlearners.ltu import InnerStep, MembershipSpec, Objective
from ltu_jax.unlearners.retrain_accessible import RetrainConfig
from tests import tiny
from tests.runs.test_plan import assert_same_split, make

TABLE = "tests.tiny:table"
FRESH = {"method": "retrain_accessible"}
LINEAR = from_functions(
    lambda key, x: {"kernel": jax.random.normal(key, (x.shape[-1], 3))},
    lambda params, x: x @ params["kernel"],
    name="linear",
)
NESTED = ltu_jax.LTUConfig(
    steps=3,
    membership_inner=InnerStep(lr=0.5, max_norm=math.inf, order=1),
    objective=Objective(
        specs=(MembershipSpec("hinge", hidden=4), MembershipSpec("log_odds", share=0.25)),
        support=1,
    ),
    query_sampling=("class",),
)


def save(folder, **options):
    """Write what a run leaves of its plan; return the plan."""
    plan = make(**{"data": TABLE, "forget": tiny.FORGOTTEN, **options})
    save_plan(plan, RunFolder(folder))
    return plan


def assert_same_plan(one, other):
    assert_same_split(one.split, other.split)
    assert one.spec == other.spec
    assert (one.recipe, one.config) == (other.recipe, other.config)
    assert requests.describe(one.request) == requests.describe(other.request)
    assert (one.method.name, one.model.name) == (other.method.name, other.model.name)
    assert one.unlearner.num_steps == other.unlearner.num_steps
    np.testing.assert_array_equal(one.dataset.train.inputs, other.dataset.train.inputs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"config": NESTED},
        {"forget": ltu_jax.by_class(["ill", 0])},
        {"forget": ltu_jax.by_group("site", "north"), "retain_fraction": 0.5},
        {"forget": None, "seed": 7},
        {"train_size": 60, "forget": ltu_jax.by_fraction(0.2, seed=3), "reference": "none"},
        {**FRESH, "config": None, "recipe": ltu_jax.Recipe(epochs=3, warmup=0.2)},
        {**FRESH, "config": RetrainConfig(ltu_jax.Recipe(epochs=2)), "epochs": 4},
        {"method": "scrub", "config": None, "epochs": 5},
    ],
)
def test_a_run_read_back_has_the_same_plan(options, tmp_path):
    plan = save(tmp_path, **options)
    assert_same_plan(load_plan(tmp_path), plan)


def test_no_id_is_written(tmp_path):
    save(tmp_path)
    assert "patient" not in RunFolder(tmp_path).spec.read_text(encoding="utf-8")


def test_only_options_that_were_changed_are_written():
    method = unlearners.find("ltu")
    assert changed_options(method, method.config) == {}
    assert set(changed_options(method, NESTED)) == {
        *("steps", "membership_inner", "objective", "query_sampling")
    }


def test_what_was_made_in_python_must_be_given_again(tmp_path):
    method = unlearners.find("finetune")
    given = {"data": tiny.table(), "model": LINEAR, "method": method}
    plan = save(tmp_path, config=None, **given)
    assert plan.spec.in_python == ("data", "model", "method")
    assert_same_plan(load_plan(tmp_path, InMemory(**given)), plan)
    for name in given:
        with pytest.raises(InputError, match="was made in Python") as caught:
            load_plan(tmp_path, InMemory(**{**given, name: None}))
        assert caught.value.argument == name


def test_changed_data_are_refused(tmp_path):
    plan = save(tmp_path, data=tiny.table())
    assert_same_plan(load_plan(tmp_path, InMemory(tiny.table())), plan)
    inputs, labels = (array.copy() for array in plan.dataset.train)
    inputs[5, 1] += 1e-3
    labels[[0, 1]] = labels[[1, 0]]
    heldout = jax.tree.map(lambda x: x[:50], plan.dataset.heldout)
    for changed in (
        plan.dataset._replace(train=plan.dataset.train._replace(inputs=inputs)),
        plan.dataset._replace(train=plan.dataset.train._replace(labels=labels)),
        plan.dataset._replace(heldout=heldout),
    ):
        with pytest.raises(InputError, match="gives other examples") as caught:
            load_plan(tmp_path, InMemory(changed))
        assert caught.value.argument == "data"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no run \(run.json: ") as caught:
        load_plan(tmp_path)
    assert caught.value.argument == "run"
    save(tmp_path)
    RunFolder(tmp_path).spec.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="holds no run") as caught:
        load_plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_of_another_version_is_refused(tmp_path):
    settings = {"data": "digits", "data_dir": None, "method": "ltu", "request": {}, "seed": 0}
    write_checksummed(RunFolder(tmp_path).spec, settings)
    with pytest.raises(InputError, match="another version of ltu_jax") as caught:
        load_plan(tmp_path)
    assert caught.value.argument == "run"


def test_settings_that_strict_json_cannot_say_are_read_back(tmp_path):
    save(tmp_path, config=NESTED)
    described = json.loads(RunFolder(tmp_path).spec.read_text(encoding="utf-8"))
    assert described["spec"]["options"]["membership_inner"] == [0.5, math.inf, 1, 1, 1.0, 0]
    assert load_plan(tmp_path).config.membership_inner == NESTED.membership_inner


def test_a_specification_survives_json():
    spec = RunSpec(options={"steps": 3}, only=("head",), recipe=ltu_jax.Recipe(epochs=3), wandb="x")
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_models_are_read_by_their_names(tmp_path):
    plan = make(forget=tiny.FORGOTTEN, model=LINEAR, method="retrain_accessible", config=None)
    models = {
        name: plan.model.init(jax.random.key(i), plan.dataset.train.inputs[:1])
        for i, name in enumerate(("original", "retrain", "unlearned"))
    }
    for name in ("original", "unlearned"):
        export(tmp_path / name, models[name])
    assert list(load_models(tmp_path, plan)) == ["original", "unlearned"]
    export(tmp_path / "retrain", models["retrain"])
    loaded = load_models(tmp_path, plan)
    assert list(loaded) == list(models)
    for name, model in loaded.items():
        jax.tree.map(np.testing.assert_array_equal, model.variables, models[name])
        assert math.isnan(model.seconds)


def test_a_missing_model_is_named(tmp_path):
    plan = make(forget=tiny.FORGOTTEN, model=LINEAR)
    with pytest.raises(InputError, match="original") as caught:
        load_models(tmp_path, plan)
    assert tiny.argument(caught.value) == "run"
