"""The script that times pools: all ways train networks that work, and its numbers add up."""

import json

import numpy as np
import pytest

from experiments import pool_benchmark
from experiments.pool_benchmark import Options, Way, measure, ratios
from ltu_jax.data import load
from ltu_jax.training.supervised import Recipe, recipe_for


def test_quick_run_writes_what_all_ways_take(tmp_path, compiled_once):
    path = tmp_path / "times.json"
    pool_benchmark.main(["--quick", "--out", str(path)])
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    results = json.loads(text)
    ways = results["ways"]
    assert set(ways) == {"pool", "sequential", "pytorch"}
    assert set(results["source"]) == {"command", "git", "versions"}
    assert results["config"]["recipe"]["epochs"] == 1
    assert (ways["pytorch"] is None) == (results["source"]["versions"]["torch"] is None)
    assert (ways["pytorch"] is None) == (results["torch_over_pool"] is None)
    assert (ways["pool"]["networks"], ways["sequential"]["networks"]) == (3, 2)
    assert results["sequential_over_pool"] == pytest.approx(
        ways["sequential"]["seconds"][0] * 3 / 2 / ways["pool"]["seconds"][0]
    )
    assert all(way["accuracy"] > 0.5 for way in ways.values() if way)  # after one epoch


def test_medians_are_scaled_to_the_size_of_the_pool(monkeypatch):
    # The first run of each way, then both in turn, twice over.
    ends = np.cumsum([9.0, 0.0, 5.0, 0.0, 2.0, 0.0, 1.0, 0.0, 4.0, 0.0, 3.0])
    clock = iter([0.0, *ends])
    monkeypatch.setattr(pool_benchmark.time, "perf_counter", lambda: next(clock))
    order = []
    ways = {
        name: Way(count, lambda name=name: order.append(name), lambda networks: 0.5)
        for name, count in (("pool", 4), ("sequential", 2))
    }
    measured = measure(ways, Options(size=4, repeats=2))
    assert order == ["pool", "sequential"] * 3
    assert measured["pool"] == {
        "networks": 4,
        "seconds": [2.0, 4.0],
        "seconds_for_size": 3.0,
        "first_run_extra_seconds": 6.0,
        "accuracy": 0.5,
    }
    assert measured["sequential"]["seconds_for_size"] == 2 * 2.0
    assert ratios(measured) == {"sequential_over_pool": 4 / 3, "torch_over_pool": None}


def test_the_pool_and_the_single_networks_are_the_same_and_learn(compiled_once):
    recipe = Recipe(epochs=2)
    ways = pool_benchmark.jax_ways(load("digits"), recipe, Options(size=2, singles=2))
    (pool,), single = ways["pool"].train(), ways["sequential"].train()
    for i, network in enumerate(single):
        kernel = network.params["Dense_0"]["kernel"]
        np.testing.assert_allclose(pool.params["Dense_0"]["kernel"][i], kernel, atol=1e-5)
    assert ways["pool"].accuracy([pool]) == ways["sequential"].accuracy(single) > 0.6


def test_pytorch_trains_the_same_net_by_the_same_recipe():
    torch = pytest.importorskip("torch")
    recipe, options = recipe_for("mlp"), Options(singles=1)
    way = pool_benchmark.pytorch_way(load("digits"), recipe, options)["pytorch"]
    (network,) = way.train()
    shapes = [tuple(p.shape) for p in network.parameters()]
    assert shapes == [(128, 64), (128,), (128, 128), (128,), (10, 128), (10,)]
    assert torch.get_num_threads() == options.threads
    assert way.accuracy([network]) > 0.95
