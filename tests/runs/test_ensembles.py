"""Pools are made once, in parts, and another one is never taken for what was asked."""

import json

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.data import inclusion as coins
from ltu_jax.runs import ensembles as pools
from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.runs.progress import Progress
from ltu_jax.training import ensembles as training
from ltu_jax.unlearners import configure, find
from tests import tiny
from tests.runs.test_plan import make

LINEAR = from_functions(
    lambda key, x: {"kernel": jax.random.normal(key, (x.shape[-1], 3))},
    lambda params, x: x @ params["kernel"],
    name="linear",
)
ASCENT = find("gradient_ascent")


def plan(method="gradient_ascent", options=None, **others):
    method = find(method)
    asked = {"forget": tiny.FORGOTTEN, "model": LINEAR, "epochs": 1, **others}
    return make(method=method, config=configure(method, options or {"epochs": 1}), **asked)


def make_one(folder, kind, size=4, of=None):
    with Progress(None, quiet=True) as progress:
        return pools.make_pool(of or plan(), kind, size, folder, progress)


def kernels(pool):
    return np.asarray(pool.variables.params["kernel"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder in which several tests find each other's pools."""
    return tmp_path_factory.mktemp("pools")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(pools, "AT_ONCE", 2)


@pytest.mark.parametrize("kind", pools.KINDS)
def test_a_pool_is_made_with_its_parent_and_read_the_second_time(
    kind, shared, monkeypatch, small_parts
):
    first = make_one(shared, kind)
    monkeypatch.setattr(pools, "train_members", None)
    monkeypatch.setattr(pools, "unlearn_members", None)
    again = make_one(shared, kind)
    networks = 8 if kind.startswith("shadow") else 4
    assert kernels(first).shape == (networks, 6, 3)
    assert len(np.unique(kernels(first), axis=0)) == networks
    np.testing.assert_array_equal(kernels(first), kernels(again))
    assert first.seconds == again.seconds > 0
    assert first.folder == again.folder == pools.pool_folder(plan(), kind, 4, shared)
    made = {path.name.split("-")[0] for path in shared.iterdir()}
    assert made >= {kind, pools.PARENT.get(kind, kind)}
    assert {path.name for path in first.folder.iterdir()} == {"about.json", "networks"}
    about = json.loads((first.folder / "about.json").read_text(encoding="utf-8"))
    assert (about["kind"], about["networks"], about["seed"]) == (kind, networks, 0)


def test_what_is_forgotten_is_nothing_to_a_pool_of_retrained_networks(tmp_path):
    data = tiny.table()
    other = data._replace(train=data.train._replace(inputs=data.train.inputs.copy()))
    other.train.inputs[plan().split.forget] += 1.0
    for kind, same in (("retrain", True), ("original", False)):
        one, two = (make_one(tmp_path, kind, 2, plan(data=x)) for x in (data, other))
        assert one.folder != two.folder
        assert np.array_equal(kernels(one), kernels(two)) == same


def test_shadow_networks_see_what_their_coins_say(tmp_path, monkeypatch, small_parts):
    seen = {"rows": [], "forget": [], "retain": []}

    def train_members(model, examples, rows, *args, **options):
        seen["rows"] += list(rows)
        return training.train_members(model, examples, rows, *args, **options)

    def unlearn_members(method, model, variables, data, **options):
        seen["forget"] += [np.asarray(own.forget.inputs) for own in data]
        seen["retain"] += [np.asarray(own.retain.inputs) for own in data]
        return training.unlearn_members(method, model, variables, data, **options)

    monkeypatch.setattr(pools, "train_members", train_members)
    monkeypatch.setattr(pools, "unlearn_members", unlearn_members)
    pool = make_one(tmp_path, "shadow_unlearned")
    pairs, inputs = pools.pairs_of(plan()), plan().dataset.train.inputs
    np.testing.assert_array_equal(pool.coins, coins.toss(4, len(pairs.first), seed=0))
    np.testing.assert_array_equal(pool.couples, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(seen["rows"], coins.trained_rows(pairs, pool.coins))
    forgotten = inputs[coins.forgotten_rows(pairs, pool.coins)]
    np.testing.assert_array_equal(seen["forget"], forgotten)
    np.testing.assert_array_equal(seen["retain"], [inputs[pairs.accessible]] * 8)
    seen["rows"].clear()
    retrained = make_one(tmp_path, "shadow_retrain")
    np.testing.assert_array_equal(seen["rows"], [pairs.base] * 8)
    np.testing.assert_array_equal(retrained.coins, pool.coins)
    assert len(set(retrained.couples)) == 8


@pytest.mark.parametrize("kind", ["original", "shadow_unlearned"])
def test_an_interrupted_pool_goes_on_and_ends_with_equal_bits(
    kind, shared, tmp_path, monkeypatch, small_parts
):
    whole = make_one(shared, kind)
    step = "unlearn_members" if kind in pools.PARENT else "train_members"
    parts = {"original": 2, "shadow_unlearned": 4}[kind]
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return getattr(training, step)(*args, **options)

    monkeypatch.setattr(pools, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_one(tmp_path / "halted", kind)
    entry = pools.pool_folder(plan(), kind, 4, tmp_path / "halted")
    assert [path.name for path in entry.iterdir()] == ["parts"]
    assert [path.name for path in (entry / "parts").iterdir()] == ["00000-00002"]
    resumed = make_one(tmp_path / "halted", kind)
    assert len(calls) == 2 + parts - 1  # what was finished is not made again
    np.testing.assert_array_equal(kernels(resumed), kernels(whole))
    assert resumed.folder.name == whole.folder.name


def test_interrupted_while_joining_it_joins_again(shared, tmp_path, monkeypatch, small_parts):
    whole = make_one(shared, "original")

    def fail(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pools, "versions", fail)
    with pytest.raises(KeyboardInterrupt):
        make_one(tmp_path / "halted", "original")
    monkeypatch.undo()
    monkeypatch.setattr(pools, "AT_ONCE", 2)
    monkeypatch.setattr(pools, "train_members", None)
    resumed = make_one(tmp_path / "halted", "original")
    np.testing.assert_array_equal(kernels(resumed), kernels(whole))


def test_the_folder_follows_from_all_that_a_pool_follows_from(tmp_path):
    def names(kinds=pools.KINDS, size=4, **options):
        return {pools.pool_folder(plan(**options), kind, size, tmp_path).name for kind in kinds}

    unlearned = ("unlearned", "shadow_unlearned")
    trained = tuple(set(pools.KINDS) - set(unlearned))
    assert names() == names()
    assert len(names() | names(size=5) | names(seed=1)) == 3 * len(pools.KINDS)
    for others in (
        {"recipe": ltu_jax.Recipe(learning_rate=0.01), "epochs": None},
        {"data": tiny.table(num_train=117)},
        {"forget": tiny.FORGOTTEN[:-1]},
    ):
        kinds = set(pools.KINDS) - ({"original"} if "forget" in others else set())
        assert names(kinds).isdisjoint(names(kinds, **others))
    # What a method is and sees is nothing to what was trained before it.
    for others in ({"method": "finetune"}, {"options": {"epochs": 2}}):
        assert names(trained) == names(trained, **others)
        assert names(unlearned).isdisjoint(names(unlearned, **others))
    assert names(["original", "retrain"]) == names(["original", "retrain"], retain_fraction=0.5)
    assert names(["unlearned"]).isdisjoint(names(["unlearned"], retain_fraction=0.5))


@pytest.mark.parametrize("name", ["networks", "about.json"])
def test_a_damaged_pool_is_refused(name, tmp_path):
    folder = make_one(tmp_path, "original", size=2).folder
    damaged = folder / name
    for path in damaged.rglob("*") if damaged.is_dir() else [damaged]:
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"--pool .*original-2-.* is damaged") as caught:
        make_one(tmp_path, "original", size=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "size", "others", "message"),
    [
        (["retrain", "distilled"], 4, {}, "--kind distilled: no such pool; choose among original"),
        (["retrain", "original"], 1, {}, "--size 1: a pool needs at least 2 networks"),
        (
            ["retrain", "shadow"],
            4,
            {"forget": ltu_jax.by_class(0)},
            "--kind shadow: no forget example has a retain example of its class",
        ),
    ],
)
def test_bad_input_is_found_before_the_first_pool_is_made(kinds, size, others, message, tmp_path):
    with pytest.raises(InputError, match=message):
        next(pools.make_pools(plan(**others), kinds, size, tmp_path, quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_pools_come_one_by_one(tmp_path):
    made = pools.make_pools(plan(), ["original", "retrain"], 2, tmp_path, quiet=True)
    assert next(made).kind == "original"
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["original"]
    assert [pool.kind for pool in made] == ["retrain"]
