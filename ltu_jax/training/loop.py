"""The loop that runs training, retraining and every unlearner.

A run is a function of its key: step `t` draws all random numbers from `fold_in(key, t)`, so results
do not depend on how steps are grouped into compiled calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import DivergedError, InputError
from ltu_jax.training.devices import Parallel, collect, replicate, split_batch
from ltu_jax.training.invariants import check_finite, check_invariants, check_prepared
from ltu_jax.training.resume import Saver
from ltu_jax.training.steps import Step, compiled, compiled_parts
from ltu_jax.types import Info, Key, PyTree, UnlearnData, Unlearner, Variables

History = dict[str, np.ndarray]


def run(
    step: Step,
    state: PyTree,
    data: PyTree,
    *,
    key: Key,
    num_steps: int,
    on_info: Callable[[int, dict[str, float]], None] | None = None,
    steps_per_call: int | None = None,
    saver: Saver | None = None,
    parallel: Parallel | None = None,
    feed: Callable[[int], Iterator[PyTree]] | None = None,
) -> tuple[PyTree, History]:
    """Advance `state` by `num_steps` jitted, donated steps.

    Args:
      step: see `Step`.
      state: any pytree; copied once, so the caller's arrays survive the donation.
      data: any pytree of device arrays; passed to every step, never donated.
      key: of the run.
      num_steps: number of steps.
      on_info: called with `(step index, {name: value})` for every step, a few steps late: values
        are fetched while the device computes later steps.
      steps_per_call: steps per compiled call. Default: depends on the backend.
      saver: saves the run at intervals, and resumes it from the last checkpoint; `on_info` then
        receives the earlier steps too.
      parallel: devices of the steps; the step must split its batch over the same devices.
      feed: from a first step to an iterator over what each step from it on receives instead of
        `data`; a compiled call then takes one step.

    Returns:
      The last state and, per diagnostic, its `[num_steps]` values.

    Raises:
      DivergedError: a diagnostic became NaN or infinite.
    """
    steps_per_call = 1 if feed else steps_per_call or default_steps_per_call()
    take_steps = programs_of(step, steps_per_call, parallel)
    state = jax.tree.map(jnp.copy, state)
    start, infos = 0, []
    pending: list[tuple[int, Info]] = []
    if saver is not None:
        start, state, infos = saver.restore(state, key)
        if on_info is not None:
            for t, info in enumerate(infos):
                on_info(t, info)
    if parallel is not None:
        state, data = replicate((state, data), parallel)
    seen = feed(start) if feed else repeat(data)
    for first in range(start, num_steps, steps_per_call):
        count = min(steps_per_call, num_steps - first)
        state, info = take_steps(count, key, first, state, next(seen))
        pending.append((first, info))
        # One call stays in flight, so that reading diagnostics never stalls the device.
        if len(pending) > 1:
            infos += _fetch(*pending.pop(0), on_info)
        if saver is not None and saver.due(first + count, num_steps):
            infos += _fetch(*pending.pop(0), on_info)
            saver.save(first + count, state, key, infos)
    for first, info in pending:
        infos += _fetch(first, info, on_info)
    names = infos[0] if infos else ()
    state = state if parallel is None else collect(state)
    return state, {name: np.array([info[name] for info in infos]) for name in names}


def default_steps_per_call() -> int:
    """Return 1 on CPU, where XLA's convolutions are 30x slower inside a scan, else 50."""
    return 1 if jax.default_backend() == "cpu" else 50


def programs_of(step: Step, steps_per_call: int, parallel: Parallel | None) -> Callable:
    """Return the compiled `advance` of a step, see `training.steps`."""
    if steps_per_call > 1 or (parallel is not None and parallel.pmap):
        return compiled(step, parallel)
    return compiled_parts(step, parallel)


def unlearn(
    method: Unlearner,
    variables: Variables,
    data: UnlearnData,
    *,
    key: Key,
    on_info: Callable[[int, dict[str, float]], None] | None = None,
    saver: Saver | None = None,
    parallel: Parallel | None = None,
) -> tuple[Variables, History]:
    """Run an unlearner on a trained model.

    Args:
      method: from `ltu_jax.unlearners`.
      variables: of the original model.
      data: all data that the method may see.
      key: of the run.
      on_info: see `run`.
      saver: see `run`; a resumed run repeats `prepare`.
      parallel: devices of the steps; None is one. `prepare` always runs on one.

    Returns:
      The unlearned variables and the history of diagnostics.

    Raises:
      DivergedError: a diagnostic or a parameter became NaN or infinite.
      InvariantError: the result breaks an invariant of the method.
    """
    prepare_key, run_key = jax.random.split(key)
    state = method.prepare(prepare_key, variables, data)
    check_prepared(method, state, variables, data)
    state, history = run(
        as_step(method, parallel),
        state,
        data,
        key=run_key,
        num_steps=method.num_steps,
        on_info=on_info,
        saver=saver,
        parallel=parallel,
    )
    result = method.finish(state)
    result = result._replace(params=jax.tree.map(_narrow, result.params, variables.params))
    check_finite(result, variables)
    check_invariants(method.invariants, state, variables, result)
    return result, history


def _narrow(new: jax.Array, old: jax.Array) -> jax.Array:
    """Return a parameter in half precision where it was; wider scalars may have widened it."""
    return new.astype(old.dtype) if new.dtype.itemsize > old.dtype.itemsize else new


def as_step(method: Unlearner, parallel: Parallel | None = None) -> Step:
    """Return sampling, splitting over devices and the update of a method as a step for `run`."""
    return _as_step(method.sample, method.step, parallel)


# Cached, so that methods with the same functions have the same programs.
@lru_cache(maxsize=32)
def _as_step(sample: Callable, update_state: Callable, parallel: Parallel | None) -> Step:
    def draw(key: Key, t: jax.Array, state: PyTree, data: UnlearnData) -> PyTree:
        batch_key, _ = jax.random.split(key)
        return split_batch(sample(batch_key, t, state, data), parallel)

    def update(key: Key, state: PyTree, batch: PyTree) -> tuple[PyTree, Info]:
        _, step_key = jax.random.split(key)
        state, info = update_state(step_key, state, batch)
        return state, _scalars(info)

    return Step(draw, update)


def _scalars(info: Info) -> Info:
    """Return diagnostics as arrays; a method of the user may return Python's numbers.

    Raises:
      InputError: one is not a single number.
    """
    arrays = {}
    for name, value in info.items():
        try:
            arrays[name] = jnp.asarray(value)
        except (TypeError, ValueError):
            arrays[name] = None
        if arrays[name] is None or arrays[name].ndim:
            found = type(value).__name__ if arrays[name] is None else f"{arrays[name].shape}"
            problem = f"has a step whose diagnostic {name} is {found}"
            raise InputError("method", problem, "return a single number for each name")
    return arrays


class Cost(NamedTuple):
    """Cost of one compiled step by XLA's analysis; zeros if a method has no steps.

    Attributes:
      peak_bytes: memory in bytes: state, visible data and temporary arrays.
      flops: floating-point operations.
    """

    peak_bytes: int
    flops: float


def step_cost(method: Unlearner, variables: Variables, data: UnlearnData) -> Cost:
    """Compile one step of `method` and return its cost, without that of `prepare`."""
    if not method.num_steps:
        return Cost(0, 0.0)
    key = jax.random.key(0)
    state = method.prepare(key, variables, data)
    memory = cast(Any, _lower(method, key, state, data).compile().memory_analysis())
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return Cost(int(peak), step_flops(as_step(method), state, data))


def step_flops(step: Step, state: PyTree, data: PyTree) -> float:
    """Return the floating-point operations of a step; shapes of `state` and `data` suffice."""
    lowered = compiled(step).lower(1, jax.random.key(0), 0, state, data)
    return float(lowered.cost_analysis()["flops"])


def compile_step(
    method: Unlearner, variables: Variables, data: UnlearnData, parallel: Parallel | None = None
) -> jax.stages.Compiled:
    """Return the compiled first step of `method`; runs `prepare`."""
    key = jax.random.key(0)
    state = method.prepare(key, variables, data)
    if parallel is not None:
        state, data = replicate((state, data), parallel)
    return _lower(method, key, state, data, parallel).compile()


def _lower(
    method: Unlearner, key: Key, state: PyTree, data: UnlearnData, parallel: Parallel | None = None
) -> jax.stages.Lowered:
    return compiled(as_step(method, parallel), parallel).lower(1, key, 0, state, data)


def _fetch(first: int, info: Info, on_info) -> list[dict[str, float]]:
    columns = jax.device_get(info)
    steps = len(next(iter(columns.values()), ()))
    rows = [{name: float(values[i]) for name, values in columns.items()} for i in range(steps)]
    for t, row in enumerate(rows, start=first):
        for name, value in row.items():
            if not np.isfinite(value):
                raise DivergedError(
                    f"{name} became {value} at step {t}; lower the learning rate and run again"
                )
        if on_info is not None:
            on_info(t, row)
    return rows
