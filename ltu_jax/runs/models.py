"""The models of a run: trained or unlearned once, exported, and found again by a resumed run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import jax
import numpy as np

from ltu_jax.data.on_disk import OnDisk, content
from ltu_jax.errors import InputError
from ltu_jax.models.fingerprint import fingerprint, program
from ltu_jax.runs.folder import RunState, variables_digest
from ltu_jax.runs.given_models import TrainFunction, train_by
from ltu_jax.runs.plan import Plan, on_device, visible_data
from ltu_jax.runs.plan_model import check_given, trace
from ltu_jax.runs.progress import OnInfo, Progress
from ltu_jax.training.compilation import compile_clock
from ltu_jax.training.invariants import check_reinitialised
from ltu_jax.training.loop import History
from ltu_jax.training.loop import unlearn as run_unlearner
from ltu_jax.training.resume import Saver
from ltu_jax.training.supervised import train, train_steps
from ltu_jax.types import Examples, PyTree, TrainedModel, UnlearnData, Variables

REFERENCES = ("retrain", "retrain_2")
# Each model has its own random stream, so that leaving one out changes no other.
_STREAMS = {"original": 0, "retrain": 1, "retrain_2": 2}
_METHOD_STREAM = 3


def training_rows(plan: Plan, name: str) -> np.ndarray:
    """Return the rows that `original`, `retrain` or `retrain_2` is trained on."""
    return np.arange(len(plan.dataset.train.labels)) if name == "original" else plan.split.retain


def training_steps(plan: Plan, name: str) -> int:
    """Return how many steps the training of `original` or a reference takes."""
    return train_steps(len(training_rows(plan, name)), plan.recipe)


def train_model(
    plan: Plan, name: str, on_info: OnInfo | None = None, saver: Saver | None = None
) -> TrainedModel:
    """Train `original`, `retrain` or `retrain_2` from its own random weights.

    Args:
      plan: the plan of the run.
      name: which model to train.
      on_info: called after each step.
      saver: see `training.resume`.
    """
    start = time.perf_counter()
    with compile_clock() as clock:
        variables, _ = train(
            plan.model,
            _training_examples(plan, name),
            plan.recipe,
            key=_key(plan, _STREAMS[name]),
            on_info=on_info,
            saver=saver,
            parallel=plan.parallel,
        )
        variables = jax.block_until_ready(variables)
    return TrainedModel(variables, _seconds_since(start, saver), clock.seconds)


def unlearn_model(
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
      plan: the plan of the run.
      original: the model to start from.
      data: what the method sees; None takes what the split lets it see.
      repeat: number of this run of the method on the same original.
      on_info: called after each step.
      saver: see `training.resume`.
    """
    data = visible_data(plan.dataset, plan.split) if data is None else data
    start = time.perf_counter()
    with compile_clock() as clock:
        variables, history = run_unlearner(
            plan.unlearner,
            original,
            data,
            key=_key(plan, _METHOD_STREAM + repeat),
            on_info=on_info,
            saver=saver,
            parallel=plan.parallel,
        )
        variables = jax.block_until_ready(variables)
    return TrainedModel(variables, _seconds_since(start, saver), clock.seconds), history


def original_model(plan: Plan, state: RunState, progress: Progress) -> TrainedModel:
    """Return the model that has seen the forget set: the user's, or a newly trained one."""
    if plan.original is None:
        return exported_model(plan, "original", state, progress)
    source = follows_from(plan, "original", plan.original)
    if done := state.finished("original", source, trace(plan.model, plan.dataset)):
        return done[0]
    model = TrainedModel(plan.original, float("nan"))
    state.finish("original", source, model)
    return model


def exported_model(plan: Plan, name: str, state: RunState, progress: Progress) -> TrainedModel:
    """Train `original`, `retrain` or `retrain_2` and export it, unless that is done."""
    source = follows_from(plan, name)
    like = trace(plan.model, plan.dataset)
    if done := state.finished(name, source, like):
        return done[0]
    if callable(plan.retrain):
        model = _by_function(plan, plan.retrain, name, like, progress)
        state.finish(name, source, model)
        return model
    on_info = progress.phase(f"train {name}", training_steps(plan, name))
    with state.saver(name, source) as saver:
        model = train_model(plan, name, on_info, saver)
    state.finish(name, source, model)
    return model


def reference_models(
    plan: Plan, original: TrainedModel, state: RunState, progress: Progress
) -> dict[str, TrainedModel]:
    """Train, or take from the user, and export the models that never see the forget set."""
    if isinstance(plan.retrain, tuple):
        trained = {
            name: _given(plan, name, variables, state)
            for name, variables in zip(REFERENCES, plan.retrain, strict=False)
        }
    else:
        trained = {name: exported_model(plan, name, state, progress) for name in REFERENCES}
    for model in trained.values():
        new, old = model.variables.params, original.variables.params
        if plan.retrain is None:
            check_reinitialised(new, old, partial(initial_parameters, plan))
        elif all(map(np.array_equal, jax.tree.leaves(new), jax.tree.leaves(old))):
            remedy = "give a model that was trained without the forget set"
            raise InputError("retrain", "gives the parameters of the original", remedy)
    return trained


def _by_function(
    plan: Plan, function: TrainFunction, name: str, like: Variables, progress: Progress
) -> TrainedModel:
    """Train a model by the user's function, on arrays of the host as the data set has them."""
    on_done = progress.phase(f"train {name}", 1)
    dataset, rows, held = plan.dataset, training_rows(plan, name), plan.split.validation
    train_data = Examples(dataset.train.inputs[rows], dataset.train.labels[rows])
    eval_data = Examples(dataset.heldout.inputs[held], dataset.heldout.labels[held])
    start = time.perf_counter()
    made = train_by(function, _key(plan, _STREAMS[name]), train_data, eval_data, like)
    seconds = time.perf_counter() - start
    check_given("retrain", plan.model, made, dataset, strict=name == "original")
    on_done(0, {})
    return TrainedModel(made, seconds)


def _given(plan: Plan, name: str, variables: Variables, state: RunState) -> TrainedModel:
    """Export a model of Retrain that the user gives."""
    source = follows_from(plan, name, variables)
    if done := state.finished(name, source, trace(plan.model, plan.dataset)):
        return done[0]
    model = TrainedModel(variables, float("nan"))
    state.finish(name, source, model)
    return model


def unlearned_model(
    plan: Plan, original: TrainedModel, state: RunState, progress: Progress
) -> tuple[TrainedModel, History]:
    """Run the method on the original and export the result, unless that is done."""
    source = follows_from(plan, "unlearned", original.variables)
    if done := state.finished("unlearned", source, trace(plan.model, plan.dataset)):
        return done
    on_info = progress.phase(f"unlearn ({plan.method.name})", plan.unlearner.num_steps)
    with state.saver("unlearned", source) as saver:
        model, history = unlearn_model(plan, original.variables, on_info=on_info, saver=saver)
    state.finish("unlearned", source, model, history)
    return model, history


def initial_parameters(plan: Plan, seed: int) -> PyTree:
    """Return initial parameters of the model."""
    return plan.model.init(
        jax.random.key(seed), on_device(plan.dataset.train, np.arange(1))[0]
    ).params


def by_label(plan: Plan, models: Mapping[str, TrainedModel]) -> dict[str, TrainedModel]:
    """Return the models by their labels in the report; `unlearned` has the method's name."""
    return {plan.method.name if n == "unlearned" else n: model for n, model in models.items()}


def follows_from(plan: Plan, name: str, original: Variables | None = None) -> str:
    """Return the SHA-256 of everything that a model of a run follows from.

    Args:
      plan: the plan of the run.
      name: `original`, `retrain`, `retrain_2` or `unlearned`.
      original: the model that `unlearned` starts from, or the user's `original`.
    """
    settings = {
        "training": training_digest(plan, "original" if name == "unlearned" else name),
        "given": None if original is None else variables_digest(original),
        "by": "function" if callable(plan.retrain) else None,
    }
    if name != "unlearned":
        return fingerprint({}, settings)
    split = plan.split._asdict()
    return fingerprint(split, settings, plan.method.name, repr(plan.config), repr(plan.spec.only))


def training_digest(plan: Plan, name: str) -> str:
    """Return the SHA-256 of everything that the training of a model follows from.

    That is: the examples it sees, the model's program, the recipe, the seed, which of the models it
    is, JAX's version and the type of device.
    """
    rows = training_rows(plan, name)
    inputs, labels = plan.dataset.train.inputs, plan.dataset.train.labels
    return fingerprint(
        {"inputs": content(inputs)[rows], "labels": labels[rows]},
        {"recipe": asdict(plan.recipe), "seed": plan.seed, "name": name},
        program(plan.model, inputs),
    )


def _training_examples(plan: Plan, name: str) -> Examples:
    """Return what a model is trained on: on the device, or on disk if it is streamed."""
    inputs, labels = plan.dataset.train
    rows = training_rows(plan, name)
    if isinstance(inputs, OnDisk):
        return Examples(inputs.take(rows), labels[rows])
    return on_device(plan.dataset.train, rows)


def _seconds_since(start: float, saver: Saver | None) -> float:
    return time.perf_counter() - start + (saver.seconds_before if saver else 0.0)


def _key(plan: Plan, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(plan.seed), stream)
