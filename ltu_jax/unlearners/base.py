"""What the table of methods holds: how a method is built, its options and their search space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ltu_jax.errors import InputError
from ltu_jax.types import Invariants, Key, Model, UnlearnData, Unlearner, Variables


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
      build: `(model, data, num_classes, config) -> Unlearner`; only the sizes of `data` are read.
      config: its default options, a frozen dataclass.
      space: the options that `ltu tune` searches; empty where there is nothing to choose.
    """

    name: str
    summary: str
    reference: str
    build: Callable[[Model, UnlearnData, int, Any], Unlearner]
    config: Any
    space: Mapping[str, LogUniform | Choice] = field(default_factory=dict)


def check_no_tokens(name: str, data: UnlearnData) -> None:
    """Raise `InputError` if inputs are integer tokens, for a method that moves inputs."""
    dtype = data.forget.inputs.dtype
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
