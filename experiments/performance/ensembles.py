"""Ensembles: models trained together, as `ltu ensemble` does, and one after another.

All train the `mlp` on digits by its default recipe. An ensemble is trained by `train_members` in
parts of `AT_ONCE`; one after another is the same compiled step, model by model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.performance.timing import interleave, median
from ltu_jax.data import load
from ltu_jax.models import build, with_preprocessing
from ltu_jax.training import loop, supervised
from ltu_jax.training.ensembles import AT_ONCE, predict_members, stack, train_members
from ltu_jax.training.supervised import Recipe, recipe_for, train_steps
from ltu_jax.types import Dataset, Examples, Key, Model, Variables

SEQUENTIAL = "sequential"


class Sizes(NamedTuple):
    """Amount of training.

    Attributes:
      members: sizes of the ensembles; the last is compared with sequential training.
      singles: number of models trained one after another.
      recipe: recipe of every model.
    """

    members: tuple[int, ...]
    singles: int
    recipe: Recipe


def sizes(quick: bool) -> Sizes:
    """Return the sizes of a run; a quick one trains for a tenth of the epochs."""
    members, recipe = (1, 4, 16, 64), recipe_for("mlp")
    if quick:
        return Sizes(members, singles=2, recipe=replace(recipe, epochs=recipe.epochs // 10))
    return Sizes(members, singles=8, recipe=recipe)


def ensemble(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return models per second by the ensemble's size, and sequential time over the largest's.

    Args:
      sizes: amount of training.
      repeats: rounds of timing.
    """
    dataset = load("digits")
    model = with_preprocessing(
        build("mlp", dataset.num_classes), mean=dataset.mean, std=dataset.std, augment=False
    )
    ways = trainings(model, dataset, sizes)
    counts = {name: sizes.singles for name in ways} | {str(size): size for size in sizes.members}
    seconds = interleave(ways, repeats)
    each = {name: median(seconds, name) / counts[name] for name in ways}
    largest = str(sizes.members[-1])
    return {
        "sequential_over_ensemble": each[SEQUENTIAL] / each[largest],
        "seconds": counts[largest] * each[largest],
        "epochs": sizes.recipe.epochs,
        "at_once": min(AT_ONCE, sizes.members[-1]),
        "ways": {
            name: {
                "models": counts[name],
                "models_per_second": 1 / each[name],
                "accuracy": accuracy(model, train(), dataset.heldout),
            }
            for name, train in ways.items()
        },
    }


def trainings(
    model: Model, dataset: Dataset, sizes: Sizes
) -> dict[str, Callable[[], list[Variables]]]:
    """Return ways to train models from the same keys; each returns stacked models."""
    examples = jax.tree.map(jnp.asarray, dataset.train)
    keys = jax.random.split(jax.random.key(0), max(sizes.members[-1], sizes.singles))
    one = one_at_a_time(model, examples, sizes.recipe)

    def together(size: int) -> list[Variables]:
        rows = np.tile(np.arange(len(examples.labels)), (size, 1))
        parts = [slice(first, first + AT_ONCE) for first in range(0, size, AT_ONCE)]
        train = partial(train_members, model, examples)
        return jax.block_until_ready(
            [train(rows[part], sizes.recipe, keys=keys[:size][part]) for part in parts]
        )

    def in_turn() -> list[Variables]:
        return [stack(jax.block_until_ready([one(key) for key in keys[: sizes.singles]]))]

    return {str(size): partial(together, size) for size in sizes.members} | {SEQUENTIAL: in_turn}


def accuracy(model: Model, parts: list[Variables], heldout: Examples) -> float:
    """Return the mean accuracy of stacked models, a fraction."""
    logits = [predict_members(model, part, heldout.inputs) for part in parts]
    return float(np.mean(np.concatenate(logits).argmax(-1) == heldout.labels))


def one_at_a_time(model: Model, examples: Examples, recipe: Recipe) -> Callable[[Key], Variables]:
    """Return `supervised.train` as a function of the key, which compiles only once."""
    size = len(examples.labels)
    shared = {"model": model, "recipe": recipe, "inputs": examples.inputs[:1], "num_examples": size}
    start = jax.jit(partial(supervised.start, **shared))
    step, num_steps = supervised.training_step(model, recipe, size), train_steps(size, recipe)

    def train(key: Key) -> Variables:
        state, order_key, run_key = start(key)
        data = supervised.TrainData(examples, jnp.arange(size), order_key)
        return loop.run(step, state, data, key=run_key, num_steps=num_steps)[0].variables

    return train
