"""The benchmark: it counts right, times in turn, and its ratios are those of what it measured."""

import json
import os
import subprocess
import sys
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.performance import (
    benchmark,
    deletion,
    ensembles,
    growth,
    meta,
    profiles,
    steps,
    timing,
)
from experiments.performance.counting import Images, forward_flops, ltu_units, plain_units
from experiments.performance.subjects import MODELS, first_order, subject
from experiments.performance.timing import compile_ahead, fastest, interleave, median, ratio
from ltu_jax.models import build
from ltu_jax.training import supervised
from ltu_jax.training.supervised import Recipe, recipe_for
from ltu_jax.types import Variables
from tests import tiny

pytestmark = pytest.mark.experiments


def small_subject(name="mlp", share=1.0):
    """A network that LTU steps through with few membership models: there is less to compile."""
    return subject(name, share / 32)._replace(config=tiny.TINY_LTU)


def test_a_quick_run_writes_every_entry(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "subject", small_subject)
    path = tmp_path / "costs.json"
    parts = ["ltu_step", "sgd_step", "import_seconds"]
    arguments = ["--quick", "--models", "mlp", "--repeats", "1", "--out", str(path)]
    benchmark.main([*arguments, "--parts", *parts])
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    results = json.loads(text)
    assert set(results) == {"source", "config", *parts}
    row = results["ltu_step"]["mlp"]
    assert row["ratio_to_plain"] == pytest.approx(
        [each * row["count_ratio"] for each in row["ratio_to_count"]]
    )
    assert row["images"] == {"support": 32, "audit": 8, "queries": 16}
    assert row["count_ratio"] == pytest.approx((32 * 9 + 16 * 3 + 8 * 12) / (3 * 56))
    assert row["first_order"]["count_ratio"] == pytest.approx((32 + 16 + 8 * 2) / 56)
    assert row["first_order"]["flops_by_xla"] < row["flops_by_xla"]
    has_torch = results["source"]["versions"]["torch"] is not None
    for part in ("ltu_step", "sgd_step"):
        assert (results[part]["mlp"]["torch_over_jax"] is not None) == has_torch
    assert 0 < results["import_seconds"] < 5
    shown = capsys.readouterr().out
    assert "| mlp, first order |" in shown
    assert "| time / operation count | PyTorch's time / ours |" in shown


def test_without_pytorch_its_entries_are_empty_and_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "torch_version", lambda: None)
    peer = benchmark.load_peer((1, 2))
    assert "PyTorch is not installed" in capsys.readouterr().out
    assert peer.ltu_ways(None, None) == peer.sgd_ways(None) == {}
    assert steps.against_torch({"jax": [1.0]}, "jax") == {
        "torch_over_jax": None,
        "torch_seconds": None,
        "torch_threads": None,
    }


def test_on_a_cpu_a_profile_is_made_by_a_process_of_one_thread(monkeypatch):
    asked = {}

    def run(command, *, env, **options):
        asked.update(command=command, threads=env["PJRT_NPROC"])
        return subprocess.CompletedProcess(command, 0, stdout='noise\n{"products": 1.0}\n')

    monkeypatch.setattr(profiles.subprocess, "run", run)
    assert profiles.profile("mlp", 0.5) == {"products": 1.0}
    assert asked["command"][1:] == ["-m", "experiments.performance.profiles", "mlp", "0.5"]
    assert asked["threads"] == "1"


def test_the_command_of_a_result_names_its_networks_and_parts():
    parts = {"parts": ("ensemble",), "models": ("cnn", "mlp")}
    line = benchmark.command(benchmark.Options(quick=True, **parts))
    assert (
        line
        == "python -m experiments.performance.benchmark --quick --parts ensemble --models cnn mlp"
    )


def test_a_profile_says_what_a_step_is_busy_with():
    found = profiles.step_profile(small_subject())
    assert found.pop("operations") > 100
    assert set(found) == set(profiles.KINDS)
    assert sum(found.values()) == pytest.approx(1)
    assert found["products"] > 0
    assert found["sorts"] > 0


def test_what_is_nested_in_an_operation_is_not_counted_twice():
    loop, body, later = ("while.3", 0.0, 5.0), ("dot.1", 1.0, 3.0), ("copy.2", 6.0, 7.0)
    assert profiles.own_seconds([body, later, loop, ("sort", 3.0, 4.0)]) == [
        ("while.3", 2.0),
        ("dot.1", 2.0),
        ("sort", 1.0),
        ("copy.2", 1.0),
    ]
    found = profiles.shares([[loop, body, later], [("convolution", 0.0, 7.0)]])
    assert found["operations"] == 4
    assert found["convolutions"] == pytest.approx(7 / 13)
    assert found["element-wise and sums"] == pytest.approx(3 / 13)


def test_every_part_is_measured_by_something():
    known = benchmark.measures(benchmark.Options(), benchmark.Peer())
    assert tuple(known) == get_args(benchmark.Part)


# Timing


def clock(monkeypatch, *durations):
    """Let every timed thing take its turn's duration."""
    times = iter(np.cumsum([x for duration in durations for x in (0.0, duration)]))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(times)))


def test_ways_run_in_turn_and_the_first_run_of_each_is_excluded(monkeypatch):
    order = []
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    clock(monkeypatch, 1.0, 1.0, 3.0, 5.0, 4.0, 8.0)
    seconds = interleave(ways, repeats=2)
    assert order == ["a", "a", "b", "b", "a", "b", "a", "b"]
    assert seconds == {"a": [3.0, 4.0], "b": [5.0, 8.0]}


def test_what_is_over_too_soon_is_run_several_times(monkeypatch):
    runs = []
    clock(monkeypatch, 0.2, 1.0)
    seconds = interleave({"a": lambda: runs.append(0)}, repeats=1, shortest=1.0)
    assert len(runs) == 1 + 1 + 5
    assert seconds == {"a": [pytest.approx(0.2)]}


def test_results_of_one_commit_are_added_to_a_file():
    def results(command, commit, **parts):
        return {"source": {"command": command, "git": commit}, "config": {}, **parts}

    old, new = results("one", "a", sgd_step={"cnn": {}}), results("two", "a")
    merged = benchmark.added(old, new)
    assert merged["source"]["command"] == "one; two"
    assert merged["sgd_step"] == {"cnn": {}}
    with pytest.raises(SystemExit):
        benchmark.added(old, results("two", "b"))


def test_programs_of_a_process_are_those_of_the_cache(tmp_path):
    code = (
        "import jax, jax.numpy as jnp\n"
        "from experiments.performance.programs import watch\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "x, found = jnp.ones(3), watch()\n"
        "def doubled(x): return 2 * x\n"
        "jax.jit(doubled)(x)\n"
        "print([one['cached'] for one in found if one['name'] == 'jit(doubled)'])"
    )
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    shown = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert shown == ["[False]", "[True]"]


def test_a_ratio_is_the_median_over_rounds():
    seconds = {"slow": [2.0, 30.0, 4.0], "fast": [1.0, 3.0, 2.0]}  # one round was disturbed
    assert ratio(seconds, "slow", "fast") == 2
    assert ratio(seconds, "missing", "fast") is None
    assert (median(seconds, "fast"), median(seconds, "missing")) == (2, None)


def test_the_fastest_way_is_kept(monkeypatch):
    ways = {"torch_1": lambda: 1, "torch_2": lambda: 2}
    clock(monkeypatch, 2.0, 1.0)
    assert fastest(ways) == {"torch_2": ways["torch_2"]}
    assert fastest({}) == {}


# Counting


@pytest.mark.parametrize(
    ("name", "million"), [("mlp", 0.0259), ("cnn", 2.609), ("resnet20", 40.8), ("resnet18", 555.4)]
)
def test_the_forward_pass_is_counted_by_hand(name, million):
    shape = (1, 8, 8, 1) if name == "mlp" else (1, 32, 32, 3)
    flops = forward_flops(build(name, 10), jnp.zeros(shape))
    assert flops == pytest.approx(2e6 * million, rel=2e-3)


def test_attention_counts_its_two_products():
    tokens, width, depth = 64, 192, 4
    layers = depth * (4 * width**2 + 2 * tokens * width + 8 * width**2) * tokens
    expected = 2 * (layers + tokens * 48 * width + width * 10)
    assert forward_flops(build("vit_tiny", 10), jnp.zeros([1, 32, 32, 3])) == expected


def test_xla_counts_about_the_same_for_a_forward_pass():
    model, images = build("cnn", 10), jnp.zeros([4, 32, 32, 3])
    variables = model.init(jax.random.key(0), images)
    program = compile_ahead(lambda: jax.jit(model.apply).lower(variables, images))
    # XLA leaves out products with padding in a convolution, and counts sums and activations.
    places = (
        (16**2, 9 * 3 * 24, 47 / 48),
        (8**2, 9 * 24 * 48, 23 / 24),
        (8**2, 9 * 48 * 64, 22 / 24),
    )
    inside = 2 * sum(place * kernel * share**2 for place, kernel, share in places) + 2 * 1024 * 10
    assert inside < program.flops / 4 < 1.1 * forward_flops(model, images[:1])
    assert program.peak_bytes > images.nbytes


def test_a_gradient_and_a_hessian_product_need_what_their_units_say():
    key = jax.random.key(0)
    weights = [jax.random.normal(key, (256, 256))] * 6
    inputs = jnp.ones([256, 256])

    def loss(weights):
        hidden = inputs
        for weight in weights:
            hidden = jnp.tanh(hidden @ weight)
        return hidden.sum()

    def flops(function, *arguments):
        return compile_ahead(lambda: jax.jit(function).lower(*arguments)).flops

    unit = 2 * 256**3 * 6
    gradient = jax.grad(loss)
    both = flops(lambda w, v: jax.jvp(gradient, (w,), (v,)), weights, weights)
    # The first layer needs less than the units say: one of three products, four of nine.
    assert flops(gradient, weights) == pytest.approx((3 - 1 / 6) * unit, rel=0.02)
    assert both == pytest.approx((9 - 5 / 6) * unit, rel=0.03)


def test_an_ltu_step_is_counted_by_its_parts():
    images = Images(support=2, audit=3, queries=5)
    second = ltu_units(images, order=2, has_statistics=True)
    assert second == {"remember": 2 * 9 + 5 * 3, "forget": 3 * 12, "statistics": 5}
    first = ltu_units(images, order=1, has_statistics=False)
    assert first == {"remember": 2 * 3 + 5 * 3, "forget": 3 * 6, "statistics": 0}
    assert plain_units(images.total) == 30


# Parts


@pytest.mark.parametrize("name", MODELS)
def test_a_quick_run_takes_no_larger_batches(name):
    assert 0 < benchmark.share(name, quick=True) <= benchmark.share(name, quick=False) <= 1


def test_ratios_are_of_what_was_measured(monkeypatch):
    monkeypatch.setattr(
        steps,
        "interleave",
        lambda ways, repeats: {
            "second": [8.0],
            "first": [4.0],
            "plain": [2.0],
            timing.PRODUCT: [0.5],
            **{name: [6.0] for name in ways if name.startswith("torch")},
        },
    )
    small = small_subject()
    row = steps.ltu_step(small, 1, lambda subject, state: {"torch_1": lambda: None})
    units = 32 * 9 + 16 * 3 + 8 * 12
    assert row["count_ratio"] == units / (56 * 3)
    assert row["ratio_to_plain"] == [4, 4, 4]
    assert row["ratio_to_count"] == pytest.approx([4 / (units / (56 * 3))] * 3)
    assert row["first_order"]["ratio_to_plain"] == [2, 2, 2]
    assert (row["torch_over_jax"], row["torch_seconds"]) == ([0.75] * 3, 6)
    assert row["torch_threads"] == 1
    assert row["flops_by_hand"] == units * 2 * (64 * 128 + 128 * 128 + 128 * 10)
    assert row["share_of_matmul_rate"] == pytest.approx(
        row["flops_by_hand"] / 8 / (2 * 1024**3 / 0.5)
    )


def test_steps_go_on_from_where_they_were():
    small = small_subject()
    before = jax.tree.map(np.array, small.variables.params)
    seen = []

    def step(key, t, state, data):
        jax.debug.callback(seen.append, state.params["Dense_0"]["kernel"][0, 0])
        moved = jax.tree.map(lambda p: p + 1, state.params)
        return Variables(moved, state.state), {}

    once = steps.prepare_training(step, jax.random.key(0), small.variables, ()).once
    once()
    once()
    jax.effects_barrier()
    assert seen[1] == pytest.approx(seen[0] + 1)
    jax.tree.map(np.testing.assert_array_equal, before, small.variables.params)


def test_all_forms_of_the_meta_gradient_are_the_same():
    rows = meta.variants(small_subject(), repeats=1)
    assert set(rows) == {"reverse_over_reverse", "forward_over_reverse", "linearize"}
    assert all(row["difference"] < 1e-6 for row in rows.values())
    assert rows["reverse_over_reverse"]["over_definition"] == [1, 1, 1]


def test_methods_and_memory_are_measured():
    small = small_subject()
    rows = meta.methods(small, 1, names=("finetune", "random_label"))
    assert set(rows) == {"finetune", "random_label", "plain"}
    assert rows["plain"]["over_plain"] == [1, 1, 1]
    rows = meta.memory(small)
    assert rows["first"]["over_first_order"] == 1
    assert rows["second"]["over_first_order"] > 1
    assert first_order(small.config).membership_inner.order == 1


def test_an_ensemble_is_compared_with_the_same_models_in_turn(monkeypatch):
    sizes = ensembles.Sizes(members=(2,), singles=2, recipe=Recipe(epochs=1))
    trained, trainings = {}, ensembles.trainings

    def once(*arguments):  # trains once, whatever the rounds
        trained.update({name: train() for name, train in trainings(*arguments).items()})
        return {name: partial(trained.get, name) for name in trained}

    monkeypatch.setattr(ensembles, "trainings", once)
    found = ensembles.ensemble(sizes, 1)
    assert {name: way["models"] for name, way in found["ways"].items()} == {"2": 2, "sequential": 2}
    assert found["sequential_over_ensemble"] == pytest.approx(
        found["ways"]["2"]["models_per_second"] / found["ways"]["sequential"]["models_per_second"]
    )
    assert all(way["accuracy"] > 0.5 for way in found["ways"].values())
    (together,), (single,) = trained["2"], trained["sequential"]
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(single)):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_deletion_is_its_steps_and_what_comes_before(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(deletion, "ltu", partial(deletion.ltu, config=tiny.TINY_LTU))
    monkeypatch.setattr(deletion, "IMAGES", 500)
    monkeypatch.setattr(deletion, "FRACTIONS", (0.1,))
    found = deletion.rte("mlp", str(tmp_path), repeats=1, wall_share=0.01)
    assert "noise stands in for CIFAR-10" in capsys.readouterr().out
    assert found["data"] == "noise"
    row = found["forget_0.1"]
    assert row["ltu_steps"] == tiny.TINY_LTU.steps
    assert row["retrain_steps"] == supervised.train_steps(450, recipe_for("mlp"))
    deleting = row["prepare_seconds"] + row["ltu_steps"] * row["ltu_step_seconds"]
    assert row["rte"] == pytest.approx(
        deleting / (row["retrain_steps"] * row["retrain_step_seconds"])
    )
    assert row["wall_rte"] == pytest.approx(row["wall_ltu_seconds"] / row["wall_retrain_seconds"])


def test_the_operations_of_a_step_do_not_grow_with_the_training_set(tmp_path):
    found = growth.growth({"data": (2_000, 20_000)}, repeats=1)
    first, last = found["data"]["2000"], found["data"]["20000"]
    assert first["over_first"] == [1, 1, 1]
    # The drawing of queries reads the accessible examples once, and grows.
    assert first["flops_by_xla"] < last["flops_by_xla"] < 1.1 * first["flops_by_xla"]
    growth.draw({**found, "width": found["data"]}, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 1000
    assert set(growth.FULL) == set(growth.QUICK) == set(growth.Work._fields)
