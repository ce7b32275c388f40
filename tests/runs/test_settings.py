"""A finished run read back is the run that was made, or it is refused."""

import json
import math

import jax
import numpy as np
import pytest

import ltu_jax
import ltu_jax.data.request as requests
from ltu_jax.runs import settings as saved
from ltu_jax import unlearners
from ltu_jax.errors import InputError
from ltu_jax.unlearners.ltu.membership import MembershipSpec
from ltu_jax.unlearners.ltu.meta import InnerStep
from ltu_jax.models import from_functions
from ltu_jax.training.checkpoint import export
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
    membership=(MembershipSpec("hinge", hidden=4), MembershipSpec("log_odds", share=0.25)),
    membership_support=1,
    query_sampling=("class",),
)


def save(folder, **options):
    """Write what a run leaves of its plan; return the plan."""
    options = {"data": TABLE, "forget": tiny.FORGOTTEN, "method": "ltu", "model": None, **options}
    plan = make(**options)
    requests.save_split(folder / "split.npz", plan.split)
    given = {name: options[name] for name in ("data", "model", "method")}
    saved.save_settings(plan, folder, **given, data_dir=None, train_size=options.get("train_size"))
    return plan


def assert_same_plan(one, other):
    assert_same_split(one.split, other.split)
    for name in ("recipe", "config", "reference", "retain_fraction", "seed"):
        assert getattr(one, name) == getattr(other, name)
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
    assert_same_plan(saved.load_plan(tmp_path), plan)


def test_no_id_is_written(tmp_path):
    save(tmp_path)
    assert "patient" not in (tmp_path / saved.SETTINGS).read_text(encoding="utf-8")


def test_only_options_that_were_changed_are_written():
    method = unlearners.find("ltu")
    assert saved.changed_options(method, method.config) == {}
    changed = saved.changed_options(method, NESTED)
    assert set(changed) == {
        *("steps", "membership_inner", "membership", "membership_support", "query_sampling")
    }


def test_what_was_made_in_python_must_be_given_again(tmp_path):
    method = unlearners.find("finetune")
    given = {"data": tiny.table(), "model": LINEAR, "method": method}
    plan = save(tmp_path, config=None, **given)
    assert_same_plan(saved.load_plan(tmp_path, **given), plan)
    for name in given:
        others = {key: value for key, value in given.items() if key != name}
        with pytest.raises(InputError, match=f"its {name} was made in Python.* give {name}="):
            saved.load_plan(tmp_path, **others)


def test_changed_data_are_refused(tmp_path):
    plan = save(tmp_path, data=tiny.table())
    same = saved.load_plan(tmp_path, data=tiny.table())
    assert_same_plan(same, plan)
    inputs, labels = (array.copy() for array in plan.dataset.train)
    inputs[5, 1] += 1e-3
    labels[[0, 1]] = labels[[1, 0]]
    for train in (
        plan.dataset.train._replace(inputs=inputs),
        plan.dataset.train._replace(labels=labels),
    ):
        with pytest.raises(InputError, match="--data table gives other examples than"):
            saved.load_plan(tmp_path, data=plan.dataset._replace(train=train))
    heldout = jax.tree.map(lambda x: x[:50], plan.dataset.heldout)
    with pytest.raises(InputError, match="--data table gives other examples than"):
        saved.load_plan(tmp_path, data=plan.dataset._replace(heldout=heldout))


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no finished run \(run.json: .*ltu unlearn named"):
        saved.load_plan(tmp_path)
    save(tmp_path)
    (tmp_path / saved.SETTINGS).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="holds no finished run") as caught:
        saved.load_plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_settings_that_strict_json_cannot_say_are_read_back(tmp_path):
    save(tmp_path, config=NESTED)
    settings = json.loads((tmp_path / saved.SETTINGS).read_text(encoding="utf-8"))
    assert settings["options"]["membership_inner"] == [0.5, math.inf, 1, 1]
    assert saved.load_plan(tmp_path).config.membership_inner == NESTED.membership_inner


def test_networks_are_read_by_the_names_of_their_rows(tmp_path):
    plan = make(forget=tiny.FORGOTTEN, model=LINEAR, method="retrain_accessible", config=None)
    networks = {
        name: plan.model.init(jax.random.key(i), plan.dataset.train.inputs[:1])
        for i, name in enumerate(("original", "unlearned", "retrain"))
    }
    for name in ("original", "unlearned"):
        export(tmp_path / name, networks[name])
    assert list(saved.load_networks(tmp_path, plan)) == ["original", "retrain_accessible"]
    export(tmp_path / "retrain", networks["retrain"])
    loaded = saved.load_networks(tmp_path, plan)
    rows = {"original": "original", "retrain": "retrain", "retrain_accessible": "unlearned"}
    assert list(loaded) == list(rows)
    for row, name in rows.items():
        jax.tree.map(np.testing.assert_array_equal, loaded[row].variables, networks[name])
        assert math.isnan(loaded[row].seconds)


def test_a_missing_network_is_named(tmp_path):
    plan = make(forget=tiny.FORGOTTEN, model=LINEAR)
    with pytest.raises(InputError, match=r"RUN .*original is no Orbax checkpoint"):
        saved.load_networks(tmp_path, plan)
