"""How the networks of a deletion come about: original, retrained and unlearned."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import NamedTuple

import jax
import numpy as np

from ltu_jax.data.on_disk import OnDisk, content
from ltu_jax.models.fingerprint import fingerprint, program
from ltu_jax.runs.plan import Plan, on_device, visible_data
from ltu_jax.runs.progress import OnInfo
from ltu_jax.training.loop import History
from ltu_jax.training.loop import unlearn as run_unlearner
from ltu_jax.training.resume import Saver
from ltu_jax.training.supervised import train, train_steps
from ltu_jax.types import Examples, TrainedModel, UnlearnData, Variables

# Every network of a run has a random stream of its own, so that leaving one out moves no other.
_STREAMS = {"original": 0, "retrain": 1, "retrain_2": 2}
_METHOD_STREAM = 3
RETRAINED = ("retrain", "retrain_2")


def training_rows(plan: Plan, name: str) -> np.ndarray:
    """Return what `original`, `retrain` or `retrain_2` is trained on: all, or the retain set."""
    return np.arange(len(plan.dataset.train.labels)) if name == "original" else plan.split.retain


def training_steps(plan: Plan, name: str) -> int:
    """Return how many steps the training of `name` takes."""
    return train_steps(len(training_rows(plan, name)), plan.recipe)


def train_network(
    plan: Plan, name: str, on_info: OnInfo | None = None, saver: Saver | None = None
) -> TrainedModel:
    """Train `original`, `retrain` or `retrain_2` from fresh random weights of its own."""
    examples = _training_examples(plan, name)
    start = time.perf_counter()
    key = _key(plan, _STREAMS[name])
    variables, _ = train(
        plan.model,
        examples,
        plan.recipe,
        key=key,
        on_info=on_info,
        saver=saver,
        parallel=plan.parallel,
    )
    return TrainedModel(jax.block_until_ready(variables), _seconds_since(start, saver))


def unlearn_network(
    plan: Plan,
    original: Variables,
    *,
    data: UnlearnData | None = None,
    repeat: int = 0,
    on_info: OnInfo | None = None,
    saver: Saver | None = None,
) -> tuple[TrainedModel, History]:
    """Run the plan's method on the original.

    Args:
      plan: of the deletion.
      original: what to start from.
      data: what the method sees; None is what the plan lets it see.
      repeat: another number is another run of the method on the same original.
      on_info: called for every step.
      saver: see `training.loop.run`.
    """
    data = visible_data(plan.dataset, plan.split) if data is None else data
    start = time.perf_counter()
    variables, history = run_unlearner(
        plan.unlearner,
        original,
        data,
        key=_key(plan, _METHOD_STREAM + repeat),
        on_info=on_info,
        saver=saver,
        parallel=plan.parallel,
    )
    return TrainedModel(jax.block_until_ready(variables), _seconds_since(start, saver)), history


def training_digest(plan: Plan, name: str) -> str:
    """Return the SHA-256 of all that the training of a network follows from.

    That is: the examples it sees, the network's program, the recipe, the seed, which of the
    networks it is, JAX's version and the kind of device.
    """
    rows = training_rows(plan, name)
    inputs, labels = plan.dataset.train.inputs, plan.dataset.train.labels
    return fingerprint(
        {"inputs": content(inputs)[rows], "labels": labels[rows]},
        {"recipe": asdict(plan.recipe), "seed": int(plan.seed), "name": name},
        program(plan.model, inputs),
    )


def _training_examples(plan: Plan, name: str) -> Examples:
    """Return what a network is trained on: on the device, or on disk if it is to be left there."""
    inputs, labels = plan.dataset.train
    rows = training_rows(plan, name)
    if isinstance(inputs, OnDisk):
        return Examples(inputs.take(rows), labels[rows])
    return on_device(plan.dataset.train, rows)


def _seconds_since(start: float, saver: Saver | None) -> float:
    return time.perf_counter() - start + (saver.seconds_before if saver else 0.0)


def _key(plan: Plan, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(plan.seed), stream)
