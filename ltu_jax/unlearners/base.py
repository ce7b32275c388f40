"""What the table of methods holds: how a method is built, its options and their search space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from ltu_jax.errors import InputError
from ltu_jax.types import (
    Array,
    Dataset,
    DataSpec,
    Invariants,
    Key,
    Model,
    Split,
    UnlearnData,
    Unlearner,
    Variables,
)


class LogUniform(NamedTuple):
    """Values between `low` and `high`, uniform on a logarithmic scale."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """Return the value below which `share` of all values lie, in [0, 1)."""
        return self.low * (self.high / self.low) ** share


class Choice(NamedTuple):
    """One of several values."""

    options: Sequence[Any]

    def at(self, share: float) -> Any:
        """Return the value at `share` of the way through the options, in [0, 1)."""
        return self.options[int(share * len(self.options))]


@dataclass(frozen=True)
class Method:
    """An unlearning method as the command line knows it.

    Attributes:
      name: what it is called.
      summary: one line.
      reference: the paper it comes from.
      build: `(model, spec, config) -> Unlearner`; sees the data's sizes and types, no values.
      config: its default options, a frozen dataclass.
      space: the options that `ltu tune` searches; empty where there is nothing to choose.
    """

    name: str
    summary: str
    reference: str
    build: Callable[[Model, DataSpec, Any], Unlearner]
    config: Any
    space: Mapping[str, LogUniform | Choice] = field(default_factory=dict)


def spec_of(data: UnlearnData, num_classes: int) -> DataSpec:
    """Return sizes, shapes and types of `data`, arrays or their shapes."""
    forget, retain, validation = (len(part.labels) for part in data)
    return DataSpec(forget, retain, validation, num_classes, _one_input(data.retain.inputs))


def spec_of_split(dataset: Dataset, split: Split) -> DataSpec:
    """Return what `spec_of` does of the data that a split lets a method see; copies none."""
    sizes = len(split.forget), len(split.accessible), len(split.validation)
    return DataSpec(*sizes, dataset.num_classes, _one_input(dataset.train.inputs))


def _one_input(inputs: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)


def check_no_tokens(name: str, spec: DataSpec) -> None:
    """Raise `InputError` if inputs are integer tokens, for a method that moves inputs."""
    dtype = spec.inputs.dtype
    if dtype.kind in "iu" and dtype.itemsize > 1:
        raise InputError(
            f"--method {name}: changes inputs by gradients, which integer tokens have none of; "
            "choose another method"
        )


def one_shot(
    prepare: Callable[[Key, Variables, UnlearnData], Variables], invariants: Invariants
) -> Unlearner:
    """Return the unlearner that is done once it is prepared: `prepare` gives the result itself."""
    return Unlearner(
        prepare,
        sample=lambda key, t, state, data: (),
        step=lambda key, state, batch: (state, {}),
        finish=lambda state: state,
        num_steps=0,
        invariants=invariants,
    )
