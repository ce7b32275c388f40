"""The recipes at the literature's scale: counted, listed, and begun on small data."""

import dataclasses

import pytest

import ltu_jax
from experiments.recipes import __main__ as recipes
from experiments.recipes.table import PER_IMAGE, SETTINGS, training_flops
from ltu_jax.training.supervised import Recipe
from tests import tiny


def test_operations_of_a_training():
    setting = SETTINGS["cifar10-resnet18"]
    assert training_flops(setting) == pytest.approx(3 * 2 * 555e6 * 45_000 * 182)


@pytest.mark.parametrize("model", ["resnet18", "vit_tiny"])
def test_multiply_adds_are_those_of_the_network(model):
    from experiments.benchmark.counting import forward_flops
    from experiments.benchmark.subjects import noise
    from ltu_jax.models import build, with_preprocessing

    network = with_preprocessing(build(model, 10), mean=(0.5,), std=(0.25,), augment=False)
    counted = forward_flops(network, noise(1, (32, 32, 3), 0).inputs)
    assert PER_IMAGE[model, 32] * 2e6 == pytest.approx(counted, rel=0.02)


def test_all_recipes_are_listed(capsys):
    recipes.main([])
    shown = capsys.readouterr().out
    assert shown.count("FLOP") == len(SETTINGS)


def test_a_recipe_is_begun(monkeypatch, tmp_path, capsys):
    small = SETTINGS["cifar10-resnet18"]._replace(model="mlp", training=Recipe(epochs=3))
    monkeypatch.setitem(SETTINGS, "cifar10-resnet18", small)
    monkeypatch.setattr(ltu_jax, "load", lambda *name, **options: tiny.table(240, 120))
    recipes.main(["cifar10-resnet18", "--smoke", "--out", str(tmp_path / "run")])
    assert (tmp_path / "run" / "report.html").exists()
    assert "report.html" in capsys.readouterr().out


def test_an_unknown_recipe_is_named():
    with pytest.raises(SystemExit, match="no such recipe"):
        recipes.main(["cifar11"])
    assert {field.name for field in dataclasses.fields(recipes.Options)} >= {"smoke", "distributed"}
