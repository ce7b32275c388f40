"""Whole deletions of CIFAR-10 images: LTU's time relative to retraining.

Steps are those of the library's own defaults: `LTUConfig` and the network's `Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.performance.steps import prepare_training
from experiments.performance.subjects import CLASSES, noise
from experiments.performance.timing import interleave, median, ratios, timed
from ltu_jax.data import from_arrays, load
from ltu_jax.data.request import split
from ltu_jax.errors import InputError
from ltu_jax.models import build, with_preprocessing
from ltu_jax.runs.plan import visible_data
from ltu_jax.training import loop, supervised
from ltu_jax.training.supervised import TrainData, recipe_for, train_steps
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.algorithm import ltu

FRACTIONS = (0.01, 0.1)
IMAGES = 10_000


def rte(
    name: str,
    data_dir: str | None,
    repeats: int,
    wall_share: float,
    fractions: Sequence[float] = FRACTIONS,
) -> dict[str, Any]:
    """Return the seconds of a deletion over those of Retrain, by the fraction forgotten.

    Args:
      name: of the network.
      data_dir: prepared TFDS data; noise of the same shape where CIFAR-10 is not there.
      repeats: rounds in which the steps of both are timed.
      wall_share: share of all steps that are also run from beginning to end, against the clock.
      fractions: of the images, that are forgotten.
    """
    dataset = images(data_dir)
    model = with_preprocessing(
        build(name, CLASSES), mean=dataset.mean, std=dataset.std, augment=False
    )
    rows = {
        f"forget_{fraction:g}": deletion(model, dataset, fraction, repeats, wall_share)
        for fraction in fractions
    }
    return {"data": dataset.name, "images": IMAGES, "model": name, **rows}


def images(data_dir: str | None) -> Dataset:
    """Return CIFAR-10, 10,000 training images; noise of its shape where it is not there."""
    try:
        return load("cifar10", data_dir=data_dir, train_size=IMAGES)
    except InputError as error:
        print(f"noise stands in for CIFAR-10: {error}")
    train, heldout = (
        jax.tree.map(np.asarray, noise(size, (32, 32, 3), size)) for size in (IMAGES, IMAGES // 2)
    )
    return from_arrays(train, heldout, name="noise", mean=(0.5,), std=(0.25,))


def deletion(
    model: Model, dataset: Dataset, fraction: float, repeats: int, wall_share: float
) -> dict[str, Any]:
    """Return what forgetting a fraction takes, `prepare` included, compiling apart."""
    forget = np.random.default_rng(0).permutation(IMAGES)[: round(fraction * IMAGES)]
    parts = split(dataset, np.sort(forget))
    data = visible_data(dataset, parts)
    recipe = recipe_for(model.name)
    key = jax.random.key(0)

    examples = jax.tree.map(jnp.asarray, dataset.train)
    state, order_key, run_key = supervised.start(
        key, model, recipe, examples.inputs[:1], len(parts.retain)
    )
    train_data = TrainData(examples, jnp.asarray(parts.retain), order_key)
    method = ltu(model, spec_of(data, CLASSES))
    method.prepare(key, state.variables, data)  # compiles what the next one only runs
    preparing, ltu_state = timed(
        lambda: jax.block_until_ready(method.prepare(key, state.variables, data))
    )

    retrain_step = supervised.training_step(model, recipe, len(parts.retain))
    steps = {
        "ltu": prepare_training(loop.as_step(method), key, ltu_state, data),
        "retrain": prepare_training(retrain_step, run_key, state, train_data),
    }
    seconds = interleave({name: step.once for name, step in steps.items()}, repeats)
    counts = {"ltu": method.num_steps, "retrain": train_steps(len(parts.retain), recipe)}
    retraining = counts["retrain"] * median(seconds, "retrain")
    stepping = counts["ltu"] * median(seconds, "ltu")

    wall = {
        "ltu": preparing
        + run_seconds(loop.as_step(method), ltu_state, data, counts["ltu"], wall_share),
        "retrain": run_seconds(retrain_step, state, train_data, counts["retrain"], wall_share),
    }
    return {
        "rte": (preparing + stepping) / retraining,
        "wall_rte": wall["ltu"] / wall["retrain"],
        "wall_share": wall_share,
        "ltu_steps": counts["ltu"],
        "retrain_steps": counts["retrain"],
        "ltu_step_seconds": median(seconds, "ltu"),
        "retrain_step_seconds": median(seconds, "retrain"),
        "step_ratio": ratios(seconds, "ltu", "retrain"),
        "prepare_seconds": preparing,
        "compile_seconds": steps["ltu"].compiled.seconds,
        "wall_ltu_seconds": wall["ltu"],
        "wall_retrain_seconds": wall["retrain"],
    }


def run_seconds(step: loop.Step, state: Any, data: Any, num_steps: int, share: float) -> float:
    """Return the seconds of `loop.run`, a share of its steps run and scaled to all of them."""

    def run(count: int) -> None:
        loop.run(step, state, data, key=jax.random.key(0), num_steps=count)

    run(loop.default_steps_per_call())  # compiles
    count = max(round(share * num_steps), loop.default_steps_per_call())
    return timed(lambda: run(count))[0] * num_steps / count
