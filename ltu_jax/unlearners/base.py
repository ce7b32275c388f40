"""The interface of unlearning methods: how they are built, configured and searched.

A method file holds a config, a builder and a `Method`:

- The config is a frozen dataclass that inherits from `Config`. Annotate its fields with the types
  below (`PositiveInt`, `Share`, ...): they are checked when the config is made. Methods that take
  SGD steps over epochs inherit from `gradient_method.SGDConfig`.
- The builder takes `(model, spec, config)` and returns an `Unlearner`. `spec` holds sizes and types
  of the data, so that a method is built before any data are on a device. A method that descends a
  loss is a call of `gradient_method.gradient_method`; one that is done in a single pass, of
  `one_shot`.

What every builder does is not repeated there:

- `model` takes raw inputs. `tx`, where a builder has it, replaces the config's optimizer.
- BatchNorm normalises with the batch and its statistics are updated, unless the docstring says
  otherwise. Teachers, masks and importances are computed in evaluation mode.
- Only the accessible part of the retain set is ever seen. An epoch is a pass over it, unless the
  docstring says otherwise.
- Options that are out of range raise `InputError`, whose `argument` is the name of the option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.types import (
    Array,
    Dataset,
    DataSpec,
    Examples,
    Invariants,
    Key,
    Model,
    Split,
    UnlearnData,
    Unlearner,
    Variables,
)


class Constraint(NamedTuple):
    """What the values of a field must satisfy, in an `Annotated` type, and its wording."""

    fits: Callable[[Any], bool]
    wording: str


_POSITIVE = Constraint(lambda x: x > 0, "a number above 0")
_NON_NEGATIVE = Constraint(lambda x: x >= 0, "a number of at least 0")
PositiveInt = Annotated[int, _POSITIVE]
PositiveFloat = Annotated[float, _POSITIVE]
NonNegativeInt = Annotated[int, _NON_NEGATIVE]
NonNegativeFloat = Annotated[float, _NON_NEGATIVE]
Share = Annotated[float, Constraint(lambda x: 0 <= x <= 1, "a share from 0 to 1")]
PositiveShare = Annotated[float, Constraint(lambda x: 0 < x <= 1, "a share above 0 and up to 1")]
OpenShare = Annotated[float, Constraint(lambda x: 0 < x < 1, "a share between 0 and 1")]
ShareBelowOne = Annotated[float, Constraint(lambda x: 0 <= x < 1, "a share of at least 0, below 1")]


@dataclass(frozen=True)
class Config:
    """Options of a method, checked against the annotations of their fields.

    Raises:
      InputError: a value is out of its range.

    Example:
      >>> @dataclass(frozen=True)
      ... class Options(Config):
      ...     epochs: Annotated[int, Constraint(lambda x: x > 0, "a number above 0")] = 5
      >>> Options(epochs=0)
      Traceback (most recent call last):
        ...
      ltu_jax.errors.InputError: epochs: is 0; give a number above 0
    """

    def __post_init__(self):
        constraints = _constraints(type(self))
        for one in fields(self):
            value, constraint = getattr(self, one.name), constraints.get(one.name)
            if constraint is not None and not constraint.fits(value):
                raise InputError(one.name, f"is {value!r}", f"give {constraint.wording}")


@cache
def _constraints(cls: type) -> dict[str, Constraint]:
    """Return the constraints of the fields that have one; a `Literal` is one of its values."""
    found = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            found[name] = hint.__metadata__[0]
        elif get_origin(hint) is Literal:
            found[name] = Constraint(get_args(hint).__contains__, " or ".join(get_args(hint)))
    return found


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


class Guarantee(NamedTuple):
    """What a method guarantees for every result, whatever an audit finds.

    Attributes:
      type: `exact` (the result was trained without the forget set), `certified` (indistinguishable
        from that up to `epsilon` and `delta`, proved), or `empirical` (nothing but measurements).
      epsilon: of a certified method.
      delta: of a certified method.
    """

    type: Literal["exact", "certified", "empirical"] = "empirical"
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class Method:
    """An unlearning method as the command line knows it.

    Attributes:
      name: what it is called.
      summary: one line.
      reference: the paper it comes from.
      build: `(model, spec, config) -> Unlearner`.
      config: its default options, a frozen dataclass.
      space: the options that `ltu tune` searches; empty where there is nothing to choose.
      traced: options that are numbers and that no code of the method branches on; they are
        arguments of its compiled step. A dot leads into a nested config.
      without_training: `config -> config` with the same steps, whose `prepare` trains no model;
        for counting operations in a dry run.
      guarantee: `config -> Guarantee`; empirical unless the method can do better.
    """

    name: str
    summary: str
    reference: str
    build: Callable[[Model, DataSpec, Any], Unlearner]
    config: Any
    space: Mapping[str, LogUniform | Choice] = field(default_factory=dict)
    traced: tuple[str, ...] = ()
    without_training: Callable[[Any], Any] = lambda config: config
    guarantee: Callable[[Any], Guarantee] = lambda config: Guarantee()


def spec_of(data: UnlearnData, num_classes: int) -> DataSpec:
    """Return sizes, shapes and types of `data`, arrays or their shapes."""
    forget, retain, validation = (len(part.labels) for part in data)
    return DataSpec(forget, retain, validation, num_classes, _one_input(data.retain.inputs))


def spec_of_split(dataset: Dataset, split: Split) -> DataSpec:
    """Return the `DataSpec` of what a split lets a method see; copies no data."""
    sizes = len(split.forget), len(split.accessible), len(split.validation)
    return DataSpec(*sizes, dataset.num_classes, _one_input(dataset.train.inputs))


def _one_input(inputs: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)


def check_no_tokens(name: str, spec: DataSpec) -> None:
    """Raise `InputError` if inputs are integer tokens, for a method that needs input gradients."""
    dtype = spec.inputs.dtype
    if dtype.kind in "iu" and dtype.itemsize > 1:
        raise InputError(
            "method",
            f"{name} needs input gradients; integer tokens have none",
            "choose another method",
        )


def one_shot(
    prepare: Callable[[Key, Variables, UnlearnData], Variables], invariants: Invariants
) -> Unlearner:
    """Return the unlearner without steps, whose `prepare` returns the unlearned variables."""
    return Unlearner(
        prepare,
        sample=lambda key, t, state, data: (),
        step=lambda key, state, batch: (state, {}),
        finish=lambda state: state,
        num_steps=0,
        invariants=invariants,
    )


class ToyProblem(NamedTuple):
    """A deletion that takes a moment, for examples and first tests: see `toy_problem`."""

    model: Model
    variables: Variables
    data: UnlearnData
    spec: DataSpec


def toy_problem() -> ToyProblem:
    """Return a dense layer from one input to two classes, trained, with 4 of 12 examples to forget.

    The label is the sign of the input; the validation set holds 4 more examples.

    Example:
      >>> model, variables, data, spec = toy_problem()
      >>> jax.tree.map(jnp.shape, variables.params)
      {'bias': (2,), 'kernel': (1, 2)}
      >>> spec.num_forget, spec.num_retain, spec.num_classes
      (4, 8, 2)
    """
    model = from_functions(
        lambda key, inputs: {"kernel": jax.random.normal(key, (1, 2)), "bias": jnp.zeros(2)},
        lambda params, inputs: inputs @ params["kernel"] + params["bias"],
        name="toy",
    )
    inputs = jnp.linspace(-2.0, 2.0, 16)[:, None]
    every = Examples(inputs, (inputs[:, 0] > 0).astype(jnp.int32))
    parts = jnp.arange(0, 16, 4), jnp.array([1, 2, 5, 6, 9, 10, 13, 14]), jnp.arange(3, 16, 4)
    data = UnlearnData(*(jax.tree.map(lambda x, rows=rows: x[rows], every) for rows in parts))
    variables = Variables({"kernel": jnp.array([[-1.0, 1.0]]), "bias": jnp.array([0.1, -0.1])}, {})
    return ToyProblem(model, variables, data, spec_of(data, 2))
