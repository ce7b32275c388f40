"""A deletion, checked and ready to run. Making a plan trains nothing and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import ltu_jax.data.history as histories
import ltu_jax.data.request as requests
import ltu_jax.paths as paths
import ltu_jax.unlearners as unlearners
import ltu_jax.unlearners.parameter_subset as parameter_subset
from ltu_jax.data.plausibility import warn_of_mistakes
from ltu_jax.errors import DamagedError, InputError, collect_warnings
from ltu_jax.files import read_checksummed
from ltu_jax.models import MODELS, with_preprocessing
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.given_models import (
    STANDARD_MEAN,
    STANDARD_STD,
    Retrain,
    brings_a_model,
    given_original,
    given_retrain,
)
from ltu_jax.runs.plan_model import Accuracy, as_model, check_given, check_own, trace
from ltu_jax.runs.spec import NO_OBJECTS, InMemory, RunSpec, as_dataset
from ltu_jax.training.compilation import relaxed
from ltu_jax.training.devices import Parallel
from ltu_jax.training.supervised import Recipe, recipe_for
from ltu_jax.types import (
    Dataset,
    Examples,
    Model,
    Problem,
    Split,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Method, spec_of, spec_of_split
from ltu_jax.unlearners.retrain_accessible import RetrainConfig


class Plan(NamedTuple):
    """A deletion, ready to run.

    Attributes:
      spec: what is to be done, resolved: every default that depends on the data is filled in.
      problem: data set, split, model and seed. The model takes raw inputs.
      request: which examples to forget.
      recipe: how original and references are trained.
      method: the unlearning method.
      config: the method's options.
      unlearner: the method, built.
      original: the model to start from; None if it is to be trained.
      earlier: examples that earlier requests removed from the data set; None if there are none.
      parallel: devices that share each step; None is one.
      warnings: what may be a mistake of the user; the report repeats it.
      accuracy: of `original`, if it was given.
      retrain: function that trains original and Retrain, or models of Retrain; None takes `recipe`.
    """

    spec: RunSpec
    problem: Problem
    request: requests.Request
    recipe: Recipe
    method: Method
    config: Any
    unlearner: Unlearner
    original: Variables | None
    earlier: Examples | None = None
    parallel: Parallel | None = None
    warnings: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    retrain: Retrain = None

    @property
    def dataset(self) -> Dataset:
        """The data set of the problem."""
        return self.problem.dataset

    @property
    def split(self) -> Split:
        """The split of the problem."""
        return self.problem.split

    @property
    def model(self) -> Model:
        """The model of the problem, which takes raw inputs."""
        return self.problem.model

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.problem.seed


FIRST_CLASS = "4"  # of the embedded digits, the default request

Forget = requests.Request | str | os.PathLike | Iterable | None


@relaxed()
def make_plan(
    spec: RunSpec,
    forget: Forget = None,
    objects: InMemory = NO_OBJECTS,
    *,
    history: histories.DeletionHistory | None = None,
) -> Plan:
    """Check all input and build what follows from it.

    Args:
      spec: what is to be done.
      forget: which examples to forget, see `pipeline.unlearn`.
      objects: arguments that were made in Python; a name in the specification comes first.
      history: what earlier requests removed from the data set.

    Raises:
      InputError: the input is wrong.
    """
    with collect_warnings() as warnings:
        plan = _checked_plan(spec, forget, objects, history)
    return plan._replace(warnings=tuple(warnings))


def _checked_plan(
    spec: RunSpec,
    forget: Forget,
    objects: InMemory,
    history: histories.DeletionHistory | None,
) -> Plan:
    if objects.params is not None and (
        (objects.model is None and spec.model is None) or spec.checkpoint is not None
    ):
        raise InputError(
            "params", "are parameters of your own model", "give `model` too, and no `checkpoint`"
        )
    named: Any = objects.method if spec.method is None else spec.method
    method = unlearners.find(named)
    config = (
        configured(method, spec.options)
        if objects.config is None
        else as_config(method, objects.config)
    )
    request = as_request(forget, spec)
    dataset, split, earlier = histories.split_remaining(
        as_dataset(spec, objects.data),
        request,
        history,
        retain_fraction=spec.retain_fraction,
        seed=spec.seed,
    )
    request = requests.as_selected(request, dataset, split.forget)
    dataset = _with_constants(dataset, spec, objects)
    bare = as_model(objects.model if spec.model is None else spec.model, dataset)
    recipe = spec.recipe or recipe_for(bare.name)
    recipe = recipe if spec.epochs is None else replace(recipe, epochs=spec.epochs)
    model = with_preprocessing(
        bare, mean=dataset.mean, std=dataset.std, augment=dataset.augment and recipe.augment
    )
    like = trace(model, dataset)
    if bare.name not in MODELS:
        check_own(model, dataset, like, int(spec.seed))
    original = given_original(spec, objects, like)
    retrain = given_retrain(spec, objects, like)
    accuracy = None
    if original is not None:
        argument = "params" if spec.checkpoint is None else "checkpoint"
        # A run may have trained for few epochs; its constants are known.
        strict = history is None and not _settings_beside(spec.checkpoint)
        accuracy = check_given(argument, model, original, dataset, strict=strict)
    for one in retrain if isinstance(retrain, tuple) else ():
        check_given("retrain", model, one, dataset, strict=False)
    only = spec.only if objects.only is None else objects.only
    only = None if only is None else parameter_subset.choose(only, like.params)
    problem = Problem(dataset, split, model, int(spec.seed))
    config, unlearner = _build(method, config, recipe, problem, only)
    resolved = replace(
        spec,
        model=spec.model if "model" in spec.in_python else spec.model or bare.name,
        options=changed_options(method, config, recipe),
        only=only,
        checkpoint=_absolute(spec.checkpoint),
        retrain=None if spec.retrain is None else tuple(map(_absolute, spec.retrain)),
        mean=dataset.mean,
        std=dataset.std,
        recipe=recipe,
        epochs=None,
    )
    own_scale = original is not None and bare.name not in MODELS
    warn_of_mistakes(dataset, split, is_first=history is None, own_scale=own_scale)
    return Plan(
        resolved,
        problem,
        request,
        recipe,
        method,
        config,
        unlearner,
        original,
        earlier,
        accuracy=accuracy,
        retrain=retrain,
    )


def _with_constants(dataset: Dataset, spec: RunSpec, objects: InMemory) -> Dataset:
    """Return `dataset` with constants of its preprocessing; a model of the user needs none.

    A checkpoint in the folder of a run was trained with the constants of that run.
    """
    own = brings_a_model(spec, objects)
    before = _settings_beside(spec.checkpoint)
    mean = spec.mean or dataset.mean or before.get("mean")
    std = spec.std or dataset.std or before.get("std")
    return dataset._replace(
        mean=tuple(mean or ((0.0,) if own else STANDARD_MEAN)),
        std=tuple(std or ((1.0,) if own else STANDARD_STD)),
    )


def _settings_beside(checkpoint: str | os.PathLike | None) -> dict[str, Any]:
    """Return the specification of the run whose folder holds a checkpoint; empty without one."""
    if checkpoint is None:
        return {}
    path = RunFolder(os.path.dirname(os.path.realpath(checkpoint))).spec
    try:
        return read_checksummed(path)["spec"] if path.exists() else {}
    except (DamagedError, KeyError):
        return {}  # a file of another program


def _absolute(checkpoint: str | os.PathLike | None) -> str | os.PathLike | None:
    if checkpoint is None or paths.is_bucket(checkpoint):
        return checkpoint
    return os.path.abspath(checkpoint)


def with_method(
    plan: Plan, method: str | Method, config: Any, data: UnlearnData | None = None
) -> Plan:
    """Return `plan` for another method or other options.

    Args:
      plan: a plan of the same deletion.
      method: the method or its name.
      config: the method's options; None takes the defaults.
      data: what the method will see; None takes what the plan's split lets it see.

    Raises:
      InputError: there is no such method, or its options do not fit the data.
    """
    method = unlearners.find(method)
    config = as_config(method, config)
    config, unlearner = _build(method, config, plan.recipe, plan.problem, plan.spec.only, data)
    spec = replace(plan.spec, options=changed_options(method, config, plan.recipe))
    if method.name != plan.method.name:
        known = method.name in unlearners.METHODS
        spec = replace(spec, method=method.name if known else None)
    return plan._replace(spec=spec, method=method, config=config, unlearner=unlearner)


def _build(
    method: Method,
    config: Any,
    recipe: Recipe,
    problem: Problem,
    only: tuple[str, ...] | None,
    data: UnlearnData | None = None,
) -> tuple[Any, Unlearner]:
    """Return the complete options of a method, and the method built."""
    if isinstance(config, RetrainConfig) and config.recipe is None:
        config = replace(config, recipe=recipe)
    if data is None:
        seen = spec_of_split(problem.dataset, problem.split)
    else:
        seen = spec_of(data, problem.dataset.num_classes)
    try:
        return config, parameter_subset.build(method, problem.model, seen, config, only)
    except InputError as error:
        everything = len(problem.split.accessible) == len(problem.split.retain)
        if error.argument != "retain_fraction" or not everything:
            raise
        reason = f"is too small for {method.name}: retain_fraction is 1 and {error.problem}"
        remedy = "give more training examples, or another `method`"
        raise InputError("data", reason, remedy) from error


def as_config(method: Method, config: Any) -> Any:
    """Return the method's options: `config`, or the defaults where it is None."""
    if config is None:
        return method.config
    wanted = type(method.config).__name__
    if not isinstance(config, type(method.config)):
        raise InputError("config", f"is a {type(config).__name__}", f"give a {wanted}")
    return config


def changed_options(method: Method, config: Any, recipe: Recipe | None = None) -> dict[str, Any]:
    """Return the options that differ from the method's defaults, as JSON values.

    Args:
      method: the method.
      config: its options.
      recipe: the recipe of original and references; a method that shares it changes nothing.
    """
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    return {
        name: _plain(value)
        for name, value in values.items()
        if value != getattr(method.config, name) and (recipe is None or value != recipe)
    }


def _plain(value: Any) -> Any:
    """Return `value` with lists for tuples and objects for dataclasses, as JSON has them."""
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def configured(method: Method, options: Mapping[str, Any]) -> Any:
    """Return the method's defaults with `options` set; undoes `changed_options`."""
    recipe = options.get("recipe")
    plain = {name: value for name, value in options.items() if name != "recipe"}
    config = unlearners.configure(method, plain)
    return config if recipe is None else replace(config, recipe=Recipe(**recipe))


def as_request(forget: Forget, spec: RunSpec) -> requests.Request:
    """Return the request that `forget` makes; None takes a default that suits the data.

    Digits are memorised so little that a random tenth of them shows nothing: a class does.
    """
    if isinstance(forget, requests.Request):
        return forget
    if forget is not None:
        return requests.by_ids(forget)
    return (
        requests.by_class(FIRST_CLASS)
        if spec.data == "digits"
        else requests.by_fraction(0.1, seed=spec.seed)
    )


def visible_data(dataset: Dataset, split: Split) -> UnlearnData:
    """Return all that a method may see, on the device."""
    return UnlearnData(
        forget=on_device(dataset.train, split.forget),
        retain=on_device(dataset.train, split.accessible),
        validation=on_device(dataset.heldout, split.validation),
    )


def on_device(examples: Examples, rows: np.ndarray) -> Examples:
    """Return some of the examples as device arrays."""
    return Examples(jnp.asarray(examples.inputs[rows]), jnp.asarray(examples.labels[rows]))
