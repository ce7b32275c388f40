"""The specification of a run: one value from the command line to `run.json` and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ltu_jax import paths
from ltu_jax.data import load
from ltu_jax.data.arrays import validate
from ltu_jax.errors import InputError, check_integer
from ltu_jax.training.supervised import Recipe
from ltu_jax.types import Dataset
from ltu_jax.unlearners.base import Method

Reference = Literal["retrain", "none"]
Rule = Literal["oracle_free", "oracle"]
SAVE_EVERY = 200  # steps; a checkpoint of a small model takes a tenth of a second


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run is to do, except which examples to forget.

    A plan holds a resolved copy: defaults that depend on the data are filled in, so that `run.json`
    describes the run completely.

    Attributes:
      data: name of the data set, see `data.load`.
      data_dir: folder in which TFDS keeps its data.
      train_size: size of a stratified subset to train on; None takes all.
      stream: whether the training images stay on disk.
      model: name of the model; None takes the one that suits the data.
      method: name of the unlearning method.
      options: the method's options that differ from its defaults.
      only: patterns or paths of the parameters that may change; None is all.
      checkpoint: trained model to start from; None trains the original.
      retrain: one or two checkpoints of models trained without the forget set; None trains them.
      mean: constants of the preprocessing, see `Dataset`; None takes those of the data set.
      std: constants of the preprocessing; None takes those of the data set.
      retain_fraction: share of the retain set that the method may see.
      reference: `"retrain"` also trains two models without the forget set.
      recipe: how original and references are trained; None takes the model's own.
      epochs: training epochs, in place of the recipe's.
      seed: seed of subset, splits, training and unlearning.
      trials: number of trials that tune the options; None does not tune.
      select: rule by which a trial is chosen.
      save_every: steps between two checkpoints of an unfinished run.
      devices: number of devices that share each step; None takes all.
      tensorboard: whether steps are written for TensorBoard.
      wandb: project of Weights & Biases that receives the steps.
      completed: names of the queued requests that this run completes.
      command: how the report says that the run was started.
      in_python: arguments that were Python objects; their names here are None.

    Raises:
      InputError: a value is out of its range.
    """

    data: str | None = "digits"
    data_dir: str | None = None
    train_size: int | None = None
    stream: bool = False
    model: str | None = None
    method: str | None = "ltu"
    options: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] | None = None
    checkpoint: str | os.PathLike | None = None
    retrain: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    retain_fraction: float = 0.3
    reference: Reference = "retrain"
    recipe: Recipe | None = None
    epochs: int | None = None
    seed: int = 0
    trials: int | None = None
    select: Rule = "oracle_free"
    save_every: int = SAVE_EVERY
    devices: int | None = None
    tensorboard: bool = False
    wandb: str | None = None
    completed: tuple[str, ...] = ()
    command: str = "ltu_jax.unlearn(...)"
    in_python: tuple[str, ...] = ()

    def __post_init__(self):
        for name, value in _numbers_of_numpy(self).items():
            object.__setattr__(self, name, value)
        if self.reference not in ("retrain", "none"):
            raise InputError("reference", f"is {self.reference!r}", "choose retrain or none")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError("seed", f"is {self.seed!r}", "give an integer")
        if not 0 <= self.seed < 2**32:
            raise InputError("seed", f"is {self.seed}", "give at least 0 and less than 2**32")
        if self.epochs is not None:
            check_integer("epochs", self.epochs)
        if not isinstance(self.recipe, Recipe | None):
            found = type(self.recipe).__name__
            raise InputError("recipe", f"is a {found}", "give an ltu_jax.Recipe")
        if self.recipe is not None:
            recipe = replace(self.recipe, **_numbers_of_numpy(self.recipe))
            object.__setattr__(self, "recipe", recipe)
        for name in ("checkpoint", "data_dir"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, paths.anywhere(name, path))
        check_integer("save_every", self.save_every)
        if not self.save_every > 0:
            raise InputError(
                "save_every", f"is {self.save_every}", "give a number of steps above 0"
            )
        if self.trials is not None:
            check_trials(self.trials, self.select, self.reference)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunSpec:
        """Return the specification that `to_json` described.

        Raises:
          KeyError: a field is missing.
        """
        values = {entry.name: content[entry.name] for entry in fields(cls)}
        for name in ("only", "completed", "in_python", "retrain", "mean", "std"):
            values[name] = values[name] if values[name] is None else tuple(values[name])
        values["recipe"] = values["recipe"] and Recipe(**values["recipe"])
        return cls(**values)


def _numbers_of_numpy(config: Any) -> dict[str, Any]:
    """Return the attributes of a dataclass that are NumPy's numbers, as Python's."""
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    return {name: value.item() for name, value in values.items() if isinstance(value, np.generic)}


class InMemory(NamedTuple):
    """The arguments of a run that were made in Python, where a name would not do.

    Attributes:
      data: the data set.
      model: the model, see `pipeline.unlearn`.
      params: parameters to start from.
      retrain: a training function, or models trained without the forget set.
      method: the unlearning method.
      config: the method's options, exactly as given.
      only: function from the path of a parameter to whether it may change.
    """

    data: Dataset | None = None
    model: Any = None
    params: Any = None
    retrain: Any = None
    method: Method | None = None
    config: Any = None
    only: Callable[[str], bool] | None = None


NO_OBJECTS = InMemory()


def _paths(value: Any) -> tuple[str, ...] | None:
    """Return a path, or several, as a tuple of strings; None for anything else."""
    given = value if isinstance(value, list | tuple) else (value,)
    are_paths = len(given) > 0 and all(isinstance(path, str | os.PathLike) for path in given)
    return tuple(os.fspath(path) for path in given) if are_paths else None


def separate(**arguments: Any) -> tuple[dict[str, Any], InMemory]:
    """Separate the arguments of a run into values for a `RunSpec` and Python objects.

    Args:
      **arguments: some of `data`, `model`, `params`, `retrain`, `method`, `config` and `only`, as
        for `pipeline.unlearn`.

    Example:
      >>> values, objects = separate(data="digits", only="head", model=len)
      >>> values
      {'data': 'digits', 'only': ('head',), 'model': None, 'in_python': ('model',)}
    """
    values, objects = {}, {}
    for name, value in arguments.items():
        if name == "only" and isinstance(value, str | list | tuple):
            values[name] = (value,) if isinstance(value, str) else tuple(value)
        elif name == "retrain" and (paths := _paths(value)):
            values[name] = paths
        elif name in ("params", "config"):
            objects[name] = value
        elif isinstance(value, str | None):
            values[name] = value
        else:
            values[name], objects[name] = None, value
    made = (name for name, value in objects.items() if name != "config" and value is not None)
    return {**values, "in_python": tuple(made)}, InMemory(**objects)


def check_trials(trials: int, select: str, reference: str = "retrain") -> None:
    """Raise `InputError` unless this many trials can be chosen from by this rule."""
    check_integer("trials", trials)
    if trials < 1:
        raise InputError("trials", f"is {trials}", "give at least 1")
    if select not in ("oracle_free", "oracle"):
        raise InputError("select", f"is {select!r}", "choose oracle_free or oracle")
    if select == "oracle" and reference == "none":
        raise InputError(
            "select", "is oracle, which compares with Retrain", "leave out `reference`"
        )


def as_dataset(spec: RunSpec, data: Any = None) -> Dataset:
    """Return the data set that the specification names, or the one in memory, checked."""
    if spec.data is not None:
        return load(
            spec.data,
            data_dir=spec.data_dir,
            train_size=spec.train_size,
            seed=spec.seed,
            stream=spec.stream,
        )
    if not isinstance(data, Dataset):
        raise InputError(
            "data",
            f"is a {type(data).__name__}, neither a name nor a Dataset",
            "make a Dataset with ltu_jax.from_arrays",
        )
    if spec.train_size is not None:
        raise InputError(
            "train_size",
            f"is {spec.train_size}, but only data sets given by name are reduced",
            "take the subset before ltu_jax.from_arrays",
        )
    if spec.stream:
        raise InputError("stream", "needs a data set given by name", "leave it out")
    return validate(data)
