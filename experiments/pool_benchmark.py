"""How long a pool takes: all networks at once, one after another, and in PyTorch.

    python -m experiments.pool_benchmark

Trains the `mlp` on digits by its own recipe, in three ways: by `train_members`, in parts of
`AT_ONCE`; by the same compiled step for one network after another; and by the same loop in PyTorch,
where that is installed (pip install torch). All are run in turn, again and again, in one process,
two minutes in all. Found on two cores: 64 networks take 10.5 s as a pool, 11.5 s one by one and
13.9 s in PyTorch; two fifths of each step of ours go into shuffling the examples anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.provenance import ROOT, git_state
from ltu_jax.data import load
from ltu_jax.models import build, with_preprocessing
from ltu_jax.report.write import versions, write_json
from ltu_jax.training import loop, supervised
from ltu_jax.training.pool import AT_ONCE, predict_members, stack, train_members
from ltu_jax.training.supervised import Recipe, recipe_for
from ltu_jax.types import Dataset, Examples, Key, Model, Variables


@dataclass(frozen=True)
class Options:
    """Time a pool of networks against the same trainings one by one.

    Attributes:
      size: networks in the pool.
      repeats: how often each way is timed, after one run that is not counted.
      singles: how many networks the other two ways train; their times are scaled to `size`.
      threads: of PyTorch; JAX takes all cores.
      seed: of weights and orders.
      quick: three networks, one epoch, to see that it works.
      out: where the numbers go.
    """

    size: int = 64
    repeats: int = 5
    singles: int = 8
    threads: int = 2
    seed: int = 0
    quick: bool = False
    out: Path = ROOT / "experiments/results/pool_benchmark.json"


class Way(NamedTuple):
    """A way to train networks.

    Attributes:
      count: how many networks.
      train: trains them and waits until they are there.
      accuracy: of such networks on the held-out set, a fraction, their mean.
    """

    count: int
    train: Callable[[], Any]
    accuracy: Callable[[Any], float]


def main(args: list[str] | None = None) -> None:
    """Time and write."""
    options = tyro.cli(Options, args=args)
    recipe = recipe_for("mlp")
    if options.quick:
        options = replace(options, size=3, singles=2, repeats=1)
        recipe = replace(recipe, epochs=1)
    dataset = load("digits")
    load_before = os.getloadavg()[0]
    ways = {
        **jax_ways(dataset, recipe, options),
        **pytorch_way(dataset, recipe, options),
    }
    if "pytorch" not in ways:
        print("PyTorch is not installed, and its entry stays empty: pip install torch")
    measured = measure(ways, options)
    results = {
        "source": {
            "command": "python -m experiments.pool_benchmark",
            "git": git_state(),
            "versions": {**versions(), "torch": _torch_version()},
        },
        "config": {
            **{name: value for name, value in asdict(options).items() if name != "out"},
            "data": "digits",
            "examples": len(dataset.train.labels),
            "model": "mlp",
            "recipe": asdict(recipe),
            "at_once": AT_ONCE,
            "cores": os.cpu_count(),
            "load_before": load_before,
        },
        "ways": {"pytorch": None, **measured},
        **ratios(measured),
    }
    write_json(options.out, results)
    for name, way in measured.items():
        print(f"{name}: {way['seconds_for_size']:.1f} s for {options.size} networks")


def measure(ways: Mapping[str, Way], options: Options) -> dict[str, dict[str, Any]]:
    """Return what each way takes; `seconds_for_size` is scaled from the networks it trained."""
    first = {name: _timed(way.train)[0] for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    networks = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            taken, networks[name] = _timed(way.train)
            seconds[name].append(taken)
    return {
        name: {
            "networks": way.count,
            "seconds": seconds[name],
            "seconds_for_size": options.size / way.count * float(np.median(seconds[name])),
            "first_run_extra_seconds": first[name] - float(np.median(seconds[name])),
            "accuracy": way.accuracy(networks[name]),
        }
        for name, way in ways.items()
    }


def ratios(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return by how much the pool is faster, as ratios of medians; None for what is missing."""
    names = {"sequential_over_pool": "sequential", "torch_over_pool": "pytorch"}
    pool = measured["pool"]["seconds_for_size"]
    return {
        ratio: measured[name]["seconds_for_size"] / pool if name in measured else None
        for ratio, name in names.items()
    }


def jax_ways(dataset: Dataset, recipe: Recipe, options: Options) -> dict[str, Way]:
    """Return this library's two ways; both train the same networks, from the same keys."""
    bare = build("mlp", dataset.num_classes)
    model = with_preprocessing(bare, mean=dataset.mean, std=dataset.std, augment=False)
    examples = jax.tree.map(jnp.asarray, dataset.train)
    keys = jax.random.split(jax.random.key(options.seed), options.size)
    rows = np.tile(np.arange(len(examples.labels)), (options.size, 1))

    def pool() -> list[Variables]:
        return [
            train_members(
                model,
                examples,
                rows[first : first + AT_ONCE],
                recipe,
                keys=keys[first : first + AT_ONCE],
            )
            for first in range(0, options.size, AT_ONCE)
        ]

    one = one_at_a_time(model, examples, recipe)

    def accuracy(parts: list[Variables]) -> float:
        logits = [predict_members(model, part, dataset.heldout.inputs) for part in parts]
        return float(np.mean(np.concatenate(logits).argmax(-1) == dataset.heldout.labels))

    return {
        "pool": Way(options.size, lambda: jax.block_until_ready(pool()), accuracy),
        "sequential": Way(
            options.singles,
            lambda: jax.block_until_ready([one(key) for key in keys[: options.singles]]),
            lambda networks: accuracy([stack(networks)]),
        ),
    }


def one_at_a_time(model: Model, examples: Examples, recipe: Recipe) -> Callable[[Key], Variables]:
    """Return `supervised.train` as a function of the key, which compiles only once."""
    size = len(examples.labels)
    start = jax.jit(
        partial(
            supervised.start,
            model=model,
            recipe=recipe,
            inputs=examples.inputs[:1],
            num_examples=size,
        )
    )
    step = supervised.training_step(model, recipe, size)
    num_steps = supervised.train_steps(size, recipe)

    def train(key: Key) -> Variables:
        state, order_key, run_key = start(key)
        data = supervised.TrainData(examples, jnp.arange(size), order_key)
        return loop.run(step, state, data, key=run_key, num_steps=num_steps)[0].variables

    return train


def pytorch_way(dataset: Dataset, recipe: Recipe, options: Options) -> dict[str, Way]:
    """Return the same loop in PyTorch, or nothing where that is not installed.

    It is spared what the others do at every step: normalising the inputs and reading the loss.
    """
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(options.threads)
    mean, std = np.float32(dataset.mean), np.float32(dataset.std)

    def as_tensors(examples: Examples) -> tuple[Any, Any]:
        inputs = (examples.inputs.astype(np.float32) / 255 - mean) / std
        return torch.from_numpy(inputs).flatten(1), torch.from_numpy(examples.labels).long()

    inputs, labels = as_tensors(dataset.train)
    generator = torch.Generator().manual_seed(options.seed)
    num_steps = supervised.train_steps(len(labels), recipe)
    per_epoch = num_steps // recipe.epochs

    def one() -> Any:
        network = _pytorch_mlp(inputs.shape[1], dataset.num_classes, generator)
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for _ in range(recipe.epochs):
            order = torch.randperm(len(labels), generator=generator)
            for batch in order[: per_epoch * recipe.batch_size].split(recipe.batch_size):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
                optimizer.step()
                schedule.step()
        return network

    def accuracy(networks: list[Any]) -> float:
        unseen, wanted = as_tensors(dataset.heldout)
        with torch.no_grad():
            right = [(network(unseen).argmax(-1) == wanted).float().mean() for network in networks]
        return float(np.mean(right))

    return {
        "pytorch": Way(options.singles, lambda: [one() for _ in range(options.singles)], accuracy)
    }


def _pytorch_mlp(num_inputs: int, num_classes: int, generator: Any) -> Any:
    """Return the net of `ltu_jax.models.mlp`, its first weights drawn as there."""
    from torch import nn

    layers = [nn.Linear(num_inputs, 128), nn.Linear(128, 128), nn.Linear(128, num_classes)]
    for layer, gain in zip(layers, ("relu", "relu", "linear"), strict=True):
        nn.init.kaiming_normal_(layer.weight, nonlinearity=gain, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _torch_version() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def _timed(train: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    networks = train()
    return time.perf_counter() - start, networks


if __name__ == "__main__":
    main()
