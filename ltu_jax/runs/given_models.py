"""Models that the user gives, the original or Retrain, and a function that trains them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from ltu_jax.errors import InputError
from ltu_jax.models import holds_arrays
from ltu_jax.plugins import call
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.training.checkpoint import as_variables, restore
from ltu_jax.types import Examples, Key, Variables

TrainFunction = Callable[[Key, Examples, Examples], Any]
Retrain = TrainFunction | tuple[Variables, ...] | None

STANDARD_MEAN, STANDARD_STD = (0.5,), (0.25,)


def brings_a_model(spec: RunSpec, objects: InMemory) -> bool:
    """Whether some model of the run comes from the user, whose preprocessing it then has."""
    given = (spec.checkpoint, spec.retrain, objects.params, objects.retrain)
    return any(one is not None for one in given)


def given_original(spec: RunSpec, objects: InMemory, like: Variables) -> Variables | None:
    """Return the original that the user gives, or None if it is to be trained."""
    if spec.checkpoint is not None:
        return restore(spec.checkpoint, like)
    return None if objects.params is None else as_variables(objects.params, like)


def given_retrain(spec: RunSpec, objects: InMemory, like: Variables) -> Retrain:
    """Return the function that trains original and Retrain, or ready models of Retrain.

    Raises:
      InputError: it is neither, or a model does not fit.
    """
    given: Any = spec.retrain if objects.retrain is None else objects.retrain
    if given is None:
        return None
    if spec.reference == "none":
        problem = "is given, but nothing is compared with Retrain"
        raise InputError("retrain", problem, "leave it out, or give reference 'retrain'")
    if _is_function(given):
        return _checked_function(given)
    models = [given] if _is_one(given) else list(given)
    if not 1 <= len(models) <= 2:
        raise InputError("retrain", f"has {len(models)} models", "give one or two")
    return tuple(
        restore(one, like, argument="retrain")
        if isinstance(one, str | os.PathLike)
        else as_variables(one, like, argument="retrain")
        for one in models
    )


def train_by(
    function: TrainFunction, key: Key, train: Examples, validation: Examples, like: Variables
) -> Variables:
    """Return what a training function of the user makes of a training set.

    Raises:
      InputError: it raised an error, or returned something else than a model.
    """
    name = getattr(function, "__name__", "retrain")
    made = call(function, key, train, validation, argument="retrain", name=name)
    return jax.block_until_ready(as_variables(made, like, argument="retrain"))


def _is_one(given: Any) -> bool:
    """Whether a value is one model or path, not several of them."""
    return not isinstance(given, list | tuple) or hasattr(given, "_fields")


def _is_function(given: Any) -> bool:
    is_model = isinstance(given, nn.Module | nnx.Module | nnx.State) or holds_arrays(given)
    return callable(given) and not is_model


def _checked_function(function: Callable) -> Callable:
    try:
        inspect.signature(function).bind("key", "train_data", "eval_data")
    except (TypeError, ValueError) as error:
        problem = f"is a function that does not take three arguments ({error})"
        raise InputError(
            "retrain", problem, "give a function of (key, train_data, eval_data)"
        ) from error
    return function
