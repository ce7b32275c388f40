"""A model is trained once, and no other model is taken for it."""

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.runs.comparison import cache
from ltu_jax.runs.comparison.cache import cached_model
from ltu_jax.runs.models import training_digest
from tests import tiny
from tests.runs.test_plan import make


def plan(**options):
    return make(forget=tiny.FORGOTTEN, method="nothing", config=None, epochs=1, **options)


def leaves(network):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(network.variables)]


def test_the_second_time_nothing_is_trained(tmp_path, monkeypatch):
    first = cached_model(tmp_path, plan(), "retrain")
    monkeypatch.setattr(cache, "train_model", None)
    again = cached_model(tmp_path, plan(), "retrain")
    assert again.seconds == first.seconds
    assert all(np.array_equal(a, b) for a, b in zip(leaves(first), leaves(again)))
    assert [path.name for path in tmp_path.iterdir()] == [training_digest(plan(), "retrain")]


def test_an_interrupted_training_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "export", fail)
    with pytest.raises(KeyboardInterrupt):
        cached_model(tmp_path, plan(), "original")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_entry_is_refused(tmp_path):
    cached_model(tmp_path, plan(), "original")
    for path in (tmp_path / training_digest(plan(), "original") / "network").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError) as refused:
        cached_model(tmp_path, plan(), "original")
    assert str(refused.value).startswith("cache")


def linear(scale):
    def init(key, inputs):
        return {"kernel": jax.random.normal(key, (inputs.shape[-1], 3))}

    return from_functions(init, lambda p, x: scale * (x @ p["kernel"]), name="linear")


def test_the_name_follows_from_all_that_a_training_follows_from():
    base = plan()
    assert training_digest(base, "original") == training_digest(plan(), "original")
    # What a method may see, or which, is nothing to the training of an original.
    assert training_digest(base, "original") == training_digest(
        plan(retain_fraction=0.5), "original"
    )
    others = [
        training_digest(base, "retrain"),
        training_digest(base, "retrain_2"),
        training_digest(plan(seed=1), "original"),
        training_digest(plan(recipe=ltu_jax.Recipe(learning_rate=0.01)), "original"),
        training_digest(plan(data=tiny.table(num_train=117)), "original"),
        training_digest(plan(model=linear(1.0)), "original"),
        training_digest(plan(model=linear(2.0)), "original"),
    ]
    assert len({training_digest(base, "original"), *others}) == len(others) + 1
