"""Dry run: steps, data and cost of a deletion, without training or writing anything."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import ltu_jax.data.request as requests
from ltu_jax.report.content import DASH, plain
from ltu_jax.report.sentences import request_in_words
from ltu_jax.runs.models import REFERENCES, training_rows, training_steps
from ltu_jax.runs.plan import Plan, visible_data, with_method
from ltu_jax.runs.plan_model import trace
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.loop import as_step, step_flops
from ltu_jax.training.supervised import TrainData, start, training_step
from ltu_jax.types import Examples


class Phase(NamedTuple):
    """One part of a run.

    Attributes:
      name: name in the progress.
      steps: number of steps; of trials where options are tuned.
      flops: floating-point operations of all steps by XLA's count, without `prepare`; None for a
        method without steps.
    """

    name: str
    steps: int
    flops: float | None


class Forecast(NamedTuple):
    """Work of a run.

    Attributes:
      request: sentence on the request.
      data: name of the data set.
      sizes: number of examples in each part.
      model: name of the model.
      method: name of the method.
      options: options of the method.
      phases: phases in the order of the run.
      ratio: operations of the deletion over those of one retraining; None if not counted.
    """

    request: str
    data: str
    sizes: dict[str, int]
    model: str
    method: str
    options: dict[str, Any]
    phases: tuple[Phase, ...]
    ratio: float | None


@relaxed()
def forecast(plan: Plan, trials: int | None = None) -> Forecast:
    """Return the work of `ltu_jax.unlearn` on a plan.

    Args:
      plan: deletion.
      trials: number of options to try first; None takes those of the plan.
    """
    split = plan.split
    sizes = {
        "train": len(plan.dataset.train.labels),
        "forget": len(split.forget),
        "retain": len(split.retain),
        "accessible": len(split.accessible),
        "inaccessible": len(split.retain) - len(split.accessible),
        "validation": len(split.validation),
        "test": len(split.test),
    }
    deletion, retraining = unlearning_flops(plan), training_flops(plan, "retrain")
    phases = []
    if plan.original is None:
        phases.append(_training(plan, "original"))
    if trials is not None:
        flops = None if deletion is None else trials * deletion
        phases.append(Phase(f"choose options ({plan.method.name})", trials, flops))
    phases.append(Phase(f"unlearn ({plan.method.name})", plan.unlearner.num_steps, deletion))
    if plan.spec.reference == "retrain" and not isinstance(plan.retrain, tuple):
        phases += [_training(plan, name) for name in REFERENCES]
    return Forecast(
        request=request_in_words(requests.describe(plan.request), sizes),
        data=plan.dataset.name,
        sizes=sizes,
        model=plan.model.name,
        method=plan.method.name,
        options=plain(asdict(plan.config)),
        phases=tuple(phases),
        ratio=None if deletion is None else deletion / retraining,
    )


def _training(plan: Plan, name: str) -> Phase:
    """Return the phase that trains a model; the cost of a function of the user is not known."""
    if callable(plan.retrain):
        return Phase(f"train {name}", 1, None)
    return Phase(f"train {name}", training_steps(plan, name), training_flops(plan, name))


def unlearning_flops(plan: Plan) -> float | None:
    """Count the operations of all steps of the method; None for a method without steps.

    The first state comes from shapes alone if the method's `prepare` can be traced. Otherwise
    `prepare` runs on untrained weights. Models that `prepare` trains are not counted, see
    `Method.without_training`.
    """
    if not plan.unlearner.num_steps:
        return None
    plan = with_method(plan, plan.method, plan.method.without_training(plan.config))
    data, key = visible_data(plan.dataset, plan.split), jax.random.key(0)
    prepare = partial(plan.unlearner.prepare, key)
    try:
        like = trace(plan.model, plan.dataset)
        state = jax.eval_shape(lambda variables: prepare(variables, data), like)
    except jax.errors.JAXTypeError:
        state = prepare(plan.model.init(key, data.retain.inputs[:1]), data)
    return plan.unlearner.num_steps * step_flops(as_step(plan.unlearner), state, data)


def training_flops(plan: Plan, name: str) -> float:
    """Count the operations of all steps of a training of `original` or `retrain`."""
    count, inputs = len(training_rows(plan, name)), plan.dataset.train.inputs

    def begin(key):
        images, labels = jnp.zeros((count, *inputs.shape[1:]), inputs.dtype), jnp.arange(count)
        state, order_key, _ = start(key, plan.model, plan.recipe, images[:1], count)
        return state, TrainData(Examples(images, labels), labels, order_key)

    state, data = jax.eval_shape(begin, jax.random.key(0))  # shapes alone
    step = training_step(plan.model, plan.recipe, count)
    return training_steps(plan, name) * step_flops(step, state, data)


def as_json(work: Forecast) -> dict[str, Any]:
    """Return the forecast as plain JSON values."""
    return plain({**work._asdict(), "phases": [phase._asdict() for phase in work.phases]})


def lines(work: Forecast) -> list[str]:
    """Return the forecast as lines of text."""
    options = ", ".join(f"{name}={value}" for name, value in work.options.items())
    parts = ", ".join(f"{name} {size:,}" for name, size in work.sizes.items())
    width = max(len(phase.name) for phase in work.phases)
    phases = [
        f"  {phase.name:<{width}}  {phase.steps:>7,} {_unit(phase)}  {_operations(phase.flops)}"
        for phase in work.phases
    ]
    return [
        "Dry run: nothing is trained or written. The command would do this:",
        f"Request: {work.request}",
        f"Data:    {work.data}; examples: {parts}.",
        f"Model:   {work.model}",
        f"Method:  {work.method} ({options})",
        "Phases, with their floating-point operations as XLA counts them:",
        *phases,
        "  audit: forward passes and attacks, not counted",
        _comparison(work.ratio),
    ]


def _unit(phase: Phase) -> str:
    return "trials" if phase.name.startswith("choose") else "steps "


def _operations(flops: float | None) -> str:
    return f"{DASH} (no steps to count)" if flops is None else f"{flops:.2e}"


def _comparison(ratio: float | None) -> str:
    if ratio is None:
        return "The method has no steps; the cost of its preparation is not counted."
    return (
        f"The deletion's steps take {ratio:.2f} times the operations of one retraining, without "
        "compilation and preparation."
    )
