"""Ensembles are made once and in parts; one with other settings is never read instead."""

import json

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.data.inclusion import draw_inclusion, forgotten_rows, trained_rows
from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.runs import ensembles
from ltu_jax.runs.progress import Progress
from ltu_jax.training import ensembles as training
from ltu_jax.unlearners import configure, find
from tests import tiny
from tests.refusals import refused
from tests.runs.test_plan import make

LINEAR = from_functions(
    lambda key, x: {"kernel": jax.random.normal(key, (x.shape[-1], 3))},
    lambda params, x: x @ params["kernel"],
    name="linear",
)
ASCENT = find("gradient_ascent")


def plan(method="gradient_ascent", options=None, **others):
    method = find(method)
    settings = {"forget": tiny.FORGOTTEN, "model": LINEAR, "epochs": 1, **others}
    return make(method=method, config=configure(method, options or {"epochs": 1}), **settings)


def make_one(folder, name, size=4, of=None):
    with Progress(None, quiet=True) as progress:
        return ensembles.make_ensemble(of or plan(), name, size, folder, progress)


def kernels(ensemble):
    return np.asarray(ensemble.variables.params["kernel"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder in which several tests find each other's ensembles."""
    return tmp_path_factory.mktemp("ensembles")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(ensembles, "AT_ONCE", 2)


@pytest.mark.parametrize("name", ensembles.TYPES)
def test_an_ensemble_is_made_with_its_parent_and_read_the_second_time(
    name, shared, monkeypatch, small_parts
):
    first = make_one(shared, name)
    monkeypatch.setattr(ensembles, "train_members", None)
    monkeypatch.setattr(ensembles, "unlearn_members", None)
    again = make_one(shared, name)
    networks = 8 if name.startswith("shadow") else 4
    assert kernels(first).shape == (networks, 6, 3)
    assert len(np.unique(kernels(first), axis=0)) == networks
    np.testing.assert_array_equal(kernels(first), kernels(again))
    assert first.seconds == again.seconds > 0
    assert first.folder == again.folder == ensembles.ensemble_folder(plan(), name, 4, shared)
    made = {path.name.split("-")[0] for path in shared.iterdir()}
    assert made >= {name, ensembles.PARENT.get(name, name)}
    assert {path.name for path in first.folder.iterdir()} == {"about.json", "models"}
    about = json.loads((first.folder / "about.json").read_text(encoding="utf-8"))
    assert (about["type"], about["models"], about["seed"]) == (name, networks, 0)


@pytest.mark.slow
def test_retrained_models_do_not_depend_on_the_forget_set(tmp_path):
    data = tiny.table()
    other = data._replace(train=data.train._replace(inputs=data.train.inputs.copy()))
    other.train.inputs[plan().split.forget] += 1.0
    for name, same in (("retrain", True), ("original", False)):
        one, two = (make_one(tmp_path, name, 2, plan(data=x)) for x in (data, other))
        assert one.folder != two.folder
        assert np.array_equal(kernels(one), kernels(two)) == same


@pytest.mark.slow
def test_shadow_models_see_what_their_inclusion_bits_say(tmp_path, monkeypatch, small_parts):
    seen = {"rows": [], "forget": [], "retain": []}

    def train_members(model, examples, rows, *args, **options):
        seen["rows"] += list(rows)
        return training.train_members(model, examples, rows, *args, **options)

    def unlearn_members(method, model, variables, data, **options):
        seen["forget"] += [np.asarray(own.forget.inputs) for own in data]
        seen["retain"] += [np.asarray(own.retain.inputs) for own in data]
        return training.unlearn_members(method, model, variables, data, **options)

    monkeypatch.setattr(ensembles, "train_members", train_members)
    monkeypatch.setattr(ensembles, "unlearn_members", unlearn_members)
    ensemble = make_one(tmp_path, "shadow_unlearned")
    pairs, inputs = ensembles.canary_pairs(plan()), plan().dataset.train.inputs
    np.testing.assert_array_equal(ensemble.inclusion, draw_inclusion(8, len(pairs.first), seed=0))
    np.testing.assert_array_equal(ensemble.streams, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(seen["rows"], trained_rows(pairs, ensemble.inclusion))
    forgotten = inputs[forgotten_rows(pairs, ensemble.inclusion)]
    np.testing.assert_array_equal(seen["forget"], forgotten)
    np.testing.assert_array_equal(seen["retain"], [inputs[pairs.accessible]] * 8)
    seen["rows"].clear()
    retrained = make_one(tmp_path, "shadow_retrain")
    np.testing.assert_array_equal(seen["rows"], [pairs.base] * 8)
    np.testing.assert_array_equal(retrained.inclusion, ensemble.inclusion)
    assert len(set(retrained.streams)) == 8


@pytest.mark.parametrize("name", ["original", "shadow_unlearned"])
def test_an_interrupted_ensemble_resumes_and_ends_with_equal_bits(
    name, shared, tmp_path, monkeypatch, small_parts
):
    whole = make_one(shared, name)
    step = "unlearn_members" if name in ensembles.PARENT else "train_members"
    parts = {"original": 2, "shadow_unlearned": 4}[name]
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return getattr(training, step)(*args, **options)

    monkeypatch.setattr(ensembles, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_one(tmp_path / "halted", name)
    entry = ensembles.ensemble_folder(plan(), name, 4, tmp_path / "halted")
    assert [path.name for path in entry.iterdir()] == ["parts"]
    assert [path.name for path in (entry / "parts").iterdir()] == ["00000-00002"]
    resumed = make_one(tmp_path / "halted", name)
    assert len(calls) == 2 + parts - 1  # complete parts are not made again
    np.testing.assert_array_equal(kernels(resumed), kernels(whole))
    assert resumed.folder.name == whole.folder.name


def test_interrupted_while_joining_it_joins_again(shared, tmp_path, monkeypatch, small_parts):
    whole = make_one(shared, "original")

    def fail(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ensembles, "versions", fail)
    with pytest.raises(KeyboardInterrupt):
        make_one(tmp_path / "halted", "original")
    monkeypatch.undo()
    monkeypatch.setattr(ensembles, "AT_ONCE", 2)
    monkeypatch.setattr(ensembles, "train_members", None)
    resumed = make_one(tmp_path / "halted", "original")
    np.testing.assert_array_equal(kernels(resumed), kernels(whole))


@pytest.mark.slow
def test_the_folder_depends_on_everything_that_the_ensemble_depends_on(tmp_path):
    def names(types=ensembles.TYPES, size=4, **options):
        return {
            ensembles.ensemble_folder(plan(**options), name, size, tmp_path).name for name in types
        }

    unlearned = ("unlearned", "shadow_unlearned")
    trained = tuple(set(ensembles.TYPES) - set(unlearned))
    assert names() == names()
    assert len(names() | names(size=5) | names(seed=1)) == 3 * len(ensembles.TYPES)
    for others in (
        {"recipe": ltu_jax.Recipe(learning_rate=0.01), "epochs": None},
        {"data": tiny.table(num_train=117)},
        {"forget": tiny.FORGOTTEN[:-1]},
    ):
        types = set(ensembles.TYPES) - ({"original"} if "forget" in others else set())
        assert names(types).isdisjoint(names(types, **others))
    # Training does not depend on the method.
    for others in ({"method": "finetune"}, {"options": {"epochs": 2}}):
        assert names(trained) == names(trained, **others)
        assert names(unlearned).isdisjoint(names(unlearned, **others))
    assert names(["original", "retrain"]) == names(["original", "retrain"], retain_fraction=0.5)
    assert names(["unlearned"]).isdisjoint(names(["unlearned"], retain_fraction=0.5))


@pytest.mark.parametrize("name", ["models", "about.json"])
def test_a_damaged_ensemble_is_refused(name, tmp_path):
    folder = make_one(tmp_path, "original", size=2).folder
    damaged = folder / name
    for path in damaged.rglob("*") if damaged.is_dir() else [damaged]:
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        make_one(tmp_path, "original", size=2)
    assert caught.value.argument == "ensembles"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("types", "size", "others", "argument"),
    [
        (["retrain", "distilled"], 4, {}, "types"),
        (["retrain", "original"], 1, {}, "size"),
        (["retrain", "shadow"], 4, {"forget": ltu_jax.by_class(0)}, "types"),
    ],
)
def test_bad_input_is_found_before_the_first_ensemble_is_made(
    types, size, others, argument, tmp_path
):
    with refused(argument):
        next(ensembles.make_ensembles(plan(**others), types, size, tmp_path, quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_ensembles_are_yielded_one_by_one(tmp_path):
    made = ensembles.make_ensembles(plan(), ["original", "retrain"], 2, tmp_path, quiet=True)
    assert next(made).type == "original"
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["original"]
    assert [ensemble.type for ensemble in made] == ["retrain"]
