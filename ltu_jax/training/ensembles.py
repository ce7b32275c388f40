"""Training and unlearning of N models by `vmap` over the members of an ensemble.

Members differ in their keys and in the rows that they see. Each member equals, up to rounding, the
model that `supervised.train` or `loop.unlearn` makes from the same key and rows. Members are
distributed over the local devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ltu_jax.training.supervised as supervised
from ltu_jax.training import loop
from ltu_jax.training.compilation import jit
from ltu_jax.training.invariants import check_finite, check_invariants, check_prepared
from ltu_jax.training.steps import Step
from ltu_jax.types import (
    Array,
    Examples,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)

OnInfo = Callable[[int, dict[str, float]], None]
AT_ONCE = 32  # members per batch: small models then fit a CPU's cache, and more are not faster


class MemberData(NamedTuple):
    """Data of the members of an ensemble.

    Attributes:
      keys: `[N]`, of each member's steps.
      shared: a pytree that all members see.
      own: a pytree with a leading axis `[N]`.
    """

    keys: Key
    shared: PyTree
    own: PyTree


def train_members(
    model: Model,
    examples: Examples,
    rows: Array,
    recipe: supervised.Recipe,
    *,
    keys: Key,
    on_info: OnInfo | None = None,
) -> Variables:
    """Train N models from scratch.

    Args:
      model: takes raw inputs.
      examples: on the device, shared by all.
      rows: `[N, n]` integers, the examples that each member trains on.
      recipe: see `Recipe`.
      keys: `[N]`; member i equals the result of `supervised.train` with `keys[i]` on its rows.
      on_info: called with `(step, {"loss": ..., "accuracy": ...})`, where steps count those of all
        members; values are means over members that run in parallel.

    Returns:
      Variables with a leading axis `[N]`.
    """
    rows = jnp.asarray(rows)
    num_examples = rows.shape[1]
    starting = _start(model, recipe, num_examples)
    states, order_keys, run_keys = starting(keys, examples.inputs[:1])
    data = MemberData(run_keys, examples, (rows, order_keys))
    step = _training_step(model, recipe, num_examples)
    num_steps = supervised.train_steps(num_examples, recipe)
    states = _run(step, states, data, num_steps, together(model, examples.inputs), on_info)
    return states.variables


def unlearn_members(
    method: Unlearner,
    model: Model,
    variables: Variables,
    data: UnlearnData | Sequence[UnlearnData],
    *,
    keys: Key,
    on_info: OnInfo | None = None,
) -> Variables:
    """Run an unlearner on N models, and check the invariants of the method for each.

    Args:
      method: built for data of these sizes.
      model: takes raw inputs.
      variables: of the original models, with a leading axis `[N]`.
      data: that of all members; or one per member, which may differ in `forget` only.
      keys: `[N]`; member i equals the result of `loop.unlearn` with `keys[i]`.
      on_info: as for `train_members`.

    Returns:
      Variables with a leading axis `[N]`.

    Raises:
      DivergedError: a diagnostic or a parameter became NaN or infinite.
      InvariantError: a result breaks an invariant of the method.
    """
    size = len(keys)
    seen = [data] * size if isinstance(data, UnlearnData) else list(data)
    prepare_keys, run_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    originals = [member(variables, i) for i in range(size)]
    # `prepare` may branch on values, which `vmap` does not allow.
    prepared = [
        method.prepare(key, original, own)
        for key, original, own in zip(prepare_keys, originals, seen, strict=True)
    ]
    for state, original, own in zip(prepared, originals, seen, strict=True):
        check_prepared(method, state, original, own)
    own = None if isinstance(data, UnlearnData) else stack([one.forget for one in seen])
    members = MemberData(run_keys, seen[0], own)
    at_once = together(model, seen[0].forget.inputs)
    step = _unlearning_step(method)
    states = _run(step, stack(prepared), members, method.num_steps, at_once, on_info)
    results = []
    for i, original in enumerate(originals):
        state = member(states, i)
        results.append(method.finish(state))
        check_finite(results[-1], original, f"member {i}: ")
        check_invariants(method.invariants, state, original, results[-1])
    return stack(results)


def predict_members(model: Model, variables: Variables, inputs: Array) -> np.ndarray:
    """Return the logits `[N, n, C]` of N models on `inputs` `[n, ...]` in evaluation mode."""
    size = num_members(variables)
    if not together(model, inputs):
        each = [supervised.predict(model, member(variables, i), inputs) for i in range(size)]
        return np.stack([np.asarray(logits) for logits in each])

    forward = _forward(model)
    batches = range(0, len(inputs), 512)
    logits = [forward(variables, jnp.asarray(inputs[first : first + 512])) for first in batches]
    return np.concatenate([np.asarray(batch) for batch in logits], axis=1)


def together(model: Model, inputs: Array) -> bool:
    """Return whether members run in parallel by `vmap`, or sequentially.

    `vmap` makes a grouped convolution of a convolution, which XLA:CPU runs far slower than the
    single ones in sequence. Everything else is faster by `vmap`.
    """
    if jax.default_backend() != "cpu":
        return True

    def forward(key: Key, inputs: Array):
        return model.apply(model.init(key, inputs), inputs)[0]

    program = str(jax.make_jaxpr(forward)(jax.random.key(0), jnp.asarray(inputs[:1])))
    return "conv_general_dilated" not in program


def num_members(variables: Variables) -> int:
    """Return N of variables with a leading axis `[N]`."""
    return len(jax.tree.leaves(variables.params)[0])


def member(tree: PyTree, i: int) -> PyTree:
    """Return the entries of member `i` in a pytree with a leading axis `[N]`."""
    return jax.tree.map(lambda x: x[i], tree)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Stack pytrees of equal shapes along a new leading axis `[N]`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# Cached, so that functions are compiled once for all parts of an ensemble.
@lru_cache(maxsize=8)
def _start(model: Model, recipe: supervised.Recipe, num_examples: int) -> Callable:
    def one(key: Key, inputs: Array):
        return supervised.start(key, model, recipe, inputs, num_examples)

    return jit(jax.vmap(one, in_axes=(0, None)))


@lru_cache(maxsize=8)
def _training_step(model: Model, recipe: supervised.Recipe, num_examples: int) -> Step:
    """Return the step of one member; its data are what all members share, and its own."""
    step = supervised.training_step(model, recipe, num_examples)

    def draw(key: Key, t: jax.Array, state: PyTree, data: tuple[Examples, PyTree]) -> PyTree:
        examples, own = data
        return step.draw(key, t, state, supervised.TrainData(examples, *own))

    return Step(draw, step.update)


@lru_cache(maxsize=8)
def _forward(model: Model) -> Callable:
    return jit(jax.vmap(lambda one, batch: model.apply(one, batch)[0], in_axes=(0, None)))


@lru_cache(maxsize=8)
def _unlearning_step(method: Unlearner) -> Step:
    """Return the step of one member, as `_training_step` does."""
    step = loop.as_step(method)

    def draw(key: Key, t: jax.Array, state: PyTree, data: tuple[UnlearnData, PyTree]) -> PyTree:
        shared, own = data
        return step.draw(key, t, state, shared if own is None else shared._replace(forget=own))

    return Step(draw, step.update)


def _run(
    step: Step,
    states: PyTree,
    data: MemberData,
    num_steps: int,
    at_once: bool,
    on_info: OnInfo | None,
) -> PyTree:
    """Advance all members."""
    size = len(data.keys)
    report = on_info or (lambda t, info: None)
    if at_once:
        states, data = _spread(states, data)
        return loop.run(
            _all_members(step),
            states,
            data,
            key=jax.random.key(0),  # unused, since every member has a key
            num_steps=num_steps,
            on_info=lambda t, info: report((t + 1) * size - 1, info),
        )[0]
    done = []
    for i in range(size):
        state, _ = loop.run(
            step,
            member(states, i),
            (data.shared, member(data.own, i)),
            key=data.keys[i],
            num_steps=num_steps,
            on_info=lambda t, info, before=i * num_steps: report(before + t, info),
        )
        done.append(state)
    return stack(done)


@lru_cache(maxsize=8)
def _all_members(step: Step) -> Step:
    def draw(key: Key, t: jax.Array, states: PyTree, data: MemberData) -> PyTree:
        del key

        def one(key: Key, state: PyTree, own: PyTree):
            key = jax.random.fold_in(key, t)
            return key, step.draw(key, t, state, (data.shared, own))

        return jax.vmap(one)(data.keys, states, data.own)

    def update(key: Key, states: PyTree, batch: PyTree):
        del key
        keys, batches = batch
        states, infos = jax.vmap(step.update)(keys, states, batches)
        return states, jax.tree.map(jnp.mean, infos)  # a NaN of any member makes the mean NaN

    return Step(draw, update)


def _spread(states: PyTree, data: MemberData) -> tuple[PyTree, MemberData]:
    """Distribute members over as many devices as divide their number; replicate shared data."""
    count = math.gcd(len(data.keys), jax.local_device_count())
    if count == 1:
        return states, data
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:count]), ("member",))
    by_member, everywhere = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in (("member",), ())
    )
    states, keys, own = jax.device_put((states, data.keys, data.own), by_member)
    return states, MemberData(keys, jax.device_put(data.shared, everywhere), own)
