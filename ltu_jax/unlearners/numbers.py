"""Options that are numbers, as arguments of a compiled step instead of constants of its program.

So all trials of a search and all requests share one program. `Method.traced` names the options:
those that no code of the method branches on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltu_jax.errors import collect_warnings
from ltu_jax.training.optimizers import is_fixed
from ltu_jax.types import DataSpec, Model, PyTree, UnlearnData, Unlearner
from ltu_jax.unlearners.base import Method


class Numbered(NamedTuple):
    """State of a method whose numbers are traced.

    Attributes:
      inner: the method's own state.
      numbers: the traced options by name.
    """

    inner: PyTree
    numbers: dict[str, jax.Array]


def build(method: Method, model: Model, spec: DataSpec, config: Any) -> Unlearner:
    """Return `method.build(model, spec, config)`, with the options `method.traced` in its state.

    Zeros and infinities stay in the program, since methods leave out what they switch off.

    Args:
      method: the method.
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: the method's options.

    Raises:
      InputError: as `method.build`.
    """
    unlearner = method.build(model, spec, config)
    values = {name: option(config, name) for name in method.traced}
    numbers = {name: value for name, value in values.items() if not is_fixed(value)}
    if not numbers or not unlearner.num_steps:
        return unlearner
    constant = with_options(config, dict.fromkeys(numbers))
    sample, step = _traced(method.build, model, spec, constant)

    def prepare(key, variables, data: UnlearnData) -> Numbered:
        return Numbered(unlearner.prepare(key, variables, data), jax.tree.map(jnp.asarray, numbers))

    mask, invariants = unlearner.invariants.trainable_mask, unlearner.invariants
    if mask is not None:
        invariants = invariants._replace(trainable_mask=lambda state: mask(state.inner))
    return unlearner._replace(
        prepare=prepare,
        sample=sample,
        step=step,
        finish=lambda state: unlearner.finish(state.inner),
        invariants=invariants,
    )


# Cached, so that two settings have the same functions, which are compiled once.
@lru_cache(maxsize=64)
def _traced(build: Callable, model: Model, spec: DataSpec, constant: Any):
    """Return `sample` and `step` of a method that is built while they are traced."""

    def built(numbers: dict[str, jax.Array]) -> Unlearner:
        with collect_warnings():  # they were given when the method was built first
            return build(model, spec, with_options(constant, numbers))

    def sample(key, t, state: Numbered, data: UnlearnData):
        return built(state.numbers).sample(key, t, state.inner, data)

    def step(key, state: Numbered, batch: PyTree):
        inner, info = built(state.numbers).step(key, state.inner, batch)
        return state._replace(inner=inner), info

    return sample, step


def option(config: Any, name: str) -> Any:
    """Return an option of a config; a dot leads into a nested one, as in `"inner.lr"`."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def with_options(config: Any, values: dict[str, Any]) -> Any:
    """Return a config with some options set, without the checks of their values."""
    for name, value in values.items():
        config = _with_option(config, name.split("."), value)
    return config


def _with_option(config: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _with_option(getattr(config, head), rest, value)
    if hasattr(config, "_replace"):
        return config._replace(**{head: value})
    new = copy.copy(config)
    object.__setattr__(new, head, value)  # dataclasses of options are frozen
    return new
