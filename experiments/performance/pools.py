"""Ensembles: models trained together and one after another, and their matrix products alone.

All train the `mlp` on digits by its own recipe. The pool is `train_members` in parts of `AT_ONCE`,
as `ltu pool` runs it; one after another is the same compiled step, network by network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.performance.counting import GRADIENT, forward_flops
from experiments.performance.timing import (
    PRODUCT,
    Product,
    compile_ahead,
    interleave,
    median,
    share_of_product,
)
from ltu_jax.data import load
from ltu_jax.models import build, with_preprocessing
from ltu_jax.training import loop, supervised
from ltu_jax.training.compilation import jit
from ltu_jax.training.ensembles import AT_ONCE, predict_members, stack, train_members
from ltu_jax.training.supervised import Recipe, recipe_for, train_steps
from ltu_jax.types import Dataset, Examples, Key, Model, Variables

SEQUENTIAL = "sequential"


class Sizes(NamedTuple):
    """How much is trained.

    Attributes:
      members: networks of the pools; the last is what is held against the other ways.
      singles: networks that the other ways train; their times are scaled to the last pool's.
      recipe: of every network.
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


class Training(NamedTuple):
    """A way to train networks.

    Attributes:
      count: how many networks.
      train: trains them and returns them once they are there.
      accuracy: of such networks on the held-out set, a fraction, their mean.
    """

    count: int
    train: Callable[[], Any]
    accuracy: Callable[[Any], float]


def pool(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return models a second by the ensemble's size, and sequential training over the largest.

    Args:
      sizes: how much is trained.
      repeats: rounds in which all ways are timed.
    """
    dataset = load("digits")
    size = sizes.members[-1]
    ways = our_trainings(dataset, sizes)
    product = step_products(dataset, sizes)
    trains = {name: way.train for name, way in ways.items()}
    seconds = interleave({**trains, PRODUCT: product.once}, repeats)
    each = {name: median(seconds, name) / way.count for name, way in ways.items()}
    largest = pool_name(size)
    steps = train_steps(len(dataset.train.labels), sizes.recipe)
    flops = size / at_once(sizes) * steps * product.flops
    return {
        "sequential_over_pool": each[SEQUENTIAL] / each[largest],
        "seconds": size * each[largest],
        "epochs": sizes.recipe.epochs,
        "at_once": at_once(sizes),
        "products_flops_per_second": product.flops / median(seconds, PRODUCT),
        "flops_per_second": flops / median(seconds, largest),
        "share_of_products_rate": share_of_product(seconds, largest, flops, product),
        "ways": {
            name: {
                "networks": way.count,
                "members_per_second": 1 / each[name],
                "accuracy": way.accuracy(way.train()),
            }
            for name, way in ways.items()
        },
    }


def pool_name(size: int) -> str:
    """Return what a pool of so many networks is called in the results."""
    return f"pool_{size}"


def our_trainings(dataset: Dataset, sizes: Sizes) -> dict[str, Training]:
    """Return this library's ways; all train the same networks, from the same keys."""
    model = digits_model(dataset)
    examples = jax.tree.map(jnp.asarray, dataset.train)
    keys = jax.random.split(jax.random.key(0), sizes.members[-1])

    def in_parts(size: int) -> list[Variables]:
        rows = np.tile(np.arange(len(examples.labels)), (size, 1))
        return jax.block_until_ready(
            [
                train_members(
                    model,
                    examples,
                    rows[first : first + AT_ONCE],
                    sizes.recipe,
                    keys=keys[:size][first : first + AT_ONCE],
                )
                for first in range(0, size, AT_ONCE)
            ]
        )

    one = one_at_a_time(model, examples, sizes.recipe)

    def in_turn() -> list[Variables]:
        return [stack(jax.block_until_ready([one(key) for key in keys[: sizes.singles]]))]

    def accuracy(parts: list[Variables]) -> float:
        logits = [predict_members(model, part, dataset.heldout.inputs) for part in parts]
        return float(np.mean(np.concatenate(logits).argmax(-1) == dataset.heldout.labels))

    return {
        **{
            pool_name(size): Training(size, partial(in_parts, size), accuracy)
            for size in sizes.members
        },
        SEQUENTIAL: Training(sizes.singles, in_turn, accuracy),
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
    num_steps = train_steps(size, recipe)

    def train(key: Key) -> Variables:
        state, order_key, run_key = start(key)
        data = supervised.TrainData(examples, jnp.arange(size), order_key)
        return loop.run(step, state, data, key=run_key, num_steps=num_steps)[0].variables

    return train


def step_products(dataset: Dataset, sizes: Sizes) -> Product:
    """Return the matrix products of one step of a pool's part, and nothing else of it.

    They are the three of every layer, forward and backward, batched over members: a step's batch
    `[N, B, in]` times the kernels `[N, in, out]` and so on, in float32.
    """
    model, batch, members = digits_model(dataset), sizes.recipe.batch_size, at_once(sizes)
    inputs = jnp.asarray(dataset.train.inputs[:1])
    params = jax.eval_shape(model.init, jax.random.key(0), inputs).params

    def products(layers: Sequence[tuple[jax.Array, jax.Array, jax.Array]]) -> list[jax.Array]:
        return [
            jnp.einsum(names, *operands)
            for x, w, dy in layers
            for names, operands in (
                ("nbi,nio->nbo", (x, w)),
                ("nbi,nbo->nio", (x, dy)),
                ("nbo,nio->nbi", (dy, w)),
            )
        ]

    layers = [
        tuple(jnp.ones([members, *shape]) for shape in ((batch, wide), (wide, out), (batch, out)))
        for wide, out in (layer["kernel"].shape for layer in params.values())
    ]
    call = compile_ahead(lambda: jit(products).lower(layers)).call
    return Product(
        lambda: jax.block_until_ready(call(layers)),
        members * batch * GRADIENT * forward_flops(model, inputs),
    )


def at_once(sizes: Sizes) -> int:
    """Return how many members of the largest pool run side by side."""
    return min(AT_ONCE, sizes.members[-1])


def digits_model(dataset: Dataset) -> Model:
    """Return the `mlp` for raw digits."""
    bare = build("mlp", dataset.num_classes)
    return with_preprocessing(bare, mean=dataset.mean, std=dataset.std, augment=False)
