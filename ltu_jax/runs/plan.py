"""Everything a deletion needs, checked: whatever is wrong with the input is found here.

Making a plan trains nothing and writes nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ltu_jax.data.history as pasts
import ltu_jax.data.request as requests
import ltu_jax.unlearners as unlearners
import ltu_jax.unlearners.parameter_subset as partly
from ltu_jax.data import load
from ltu_jax.data.arrays import validate
from ltu_jax.errors import InputError, check_integer, check_path
from ltu_jax.plugins import call
from ltu_jax.models import MODELS, build, with_preprocessing, wrap
from ltu_jax.training.checkpoint import restore
from ltu_jax.training.checkpoint import as_variables
from ltu_jax.training.devices import Parallel
from ltu_jax.training.supervised import Recipe, recipe_for
from ltu_jax.types import Dataset, Examples, Model, Problem, Split, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Method, spec_of, spec_of_split
from ltu_jax.unlearners.retrain_accessible import RetrainConfig

REFERENCES = ("retrain", "none")


class Plan(NamedTuple):
    """A deletion, ready to run.

    Attributes:
      dataset: the exact training set and the held-out set.
      request: whom to forget.
      split: the index sets that follow.
      model: takes raw inputs.
      recipe: how original and references are trained.
      method: the unlearning method.
      config: its options.
      unlearner: the method, built.
      original: the network to start from; `None` if it is to be trained.
      reference: `"retrain"` or `"none"`.
      retain_fraction: share of the retain set that the method may see.
      seed: of subset, splits and training.
      only: paths of the parameters that the method may move; None is all of them.
      parallel: over which devices training and unlearning go; None is one.
      earlier: what the model was made to forget by earlier requests; `dataset` holds none of it.
    """

    dataset: Dataset
    request: requests.Request
    split: Split
    model: Model
    recipe: Recipe
    method: Method
    config: Any
    unlearner: Unlearner
    original: Variables | None
    reference: str
    retain_fraction: float
    seed: int
    only: tuple[str, ...] | None = None
    parallel: Parallel | None = None
    earlier: Examples | None = None

    @property
    def problem(self) -> Problem:
        """The deletion as audit and report see it."""
        return Problem(self.dataset, self.split, self.model, self.seed)


def make_plan(
    data: str | Dataset,
    forget: requests.Request | str | os.PathLike | Iterable | None,
    *,
    model: Any = None,
    params: Any = None,
    method: str | Method = "nothing",
    config: Any = None,
    only: partly.Only | None = None,
    checkpoint: str | os.PathLike | None = None,
    retain_fraction: float = 0.3,
    reference: str = "none",
    recipe: Recipe | None = None,
    epochs: int | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    train_size: int | None = None,
    stream: bool = False,
    past: pasts.Past | None = None,
) -> Plan:
    """Check all input and build what follows from it; the arguments are `pipeline.unlearn`'s.

    By default there is no method yet (see `with_method`) and no reference. `past` is what earlier
    requests have taken from the data.

    Raises:
      InputError: something asked for is wrong.
    """
    if reference not in REFERENCES:
        raise InputError(f"--reference {reference}: choose one of {', '.join(REFERENCES)}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"--seed {seed}: give an integer of at least 0 and below 2**32")
    if epochs is not None:
        check_integer("--epochs", epochs)
    if not isinstance(recipe, Recipe | None):
        raise InputError(f"recipe: is a {type(recipe).__name__}; give an ltu_jax.Recipe")
    for argument, path in (("--checkpoint", checkpoint), ("--data-dir", data_dir)):
        if path is not None:
            check_path(argument, path)
    if params is not None and (model is None or checkpoint is not None):
        raise InputError(
            "params: are those of a network of yours; give its model as well, and no checkpoint"
        )
    method = unlearners.find(method)
    config = as_config(method, config)
    request = as_request(forget, seed)
    dataset, split, earlier = pasts.cut(
        as_dataset(data, data_dir, train_size, seed, stream),
        request,
        past,
        retain_fraction=retain_fraction,
        seed=seed,
    )
    bare = as_model(model, dataset)
    recipe = recipe or recipe_for(bare.name)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    network = with_preprocessing(
        bare, mean=dataset.mean, std=dataset.std, augment=dataset.augment and recipe.augment
    )
    like = trace(network, dataset)
    if checkpoint is not None:
        original = restore(checkpoint, like)
    else:
        original = None if params is None else as_variables(params, like)
    only = None if only is None else partly.choose(only, like.params)
    config = _with_recipe(config, recipe)
    spec = spec_of_split(dataset, split)
    return Plan(
        dataset=dataset,
        request=request,
        split=split,
        model=network,
        recipe=recipe,
        method=method,
        config=config,
        unlearner=partly.build(method, network, spec, config, only),
        original=original,
        reference=reference,
        retain_fraction=retain_fraction,
        seed=seed,
        only=only,
        earlier=earlier,
    )


def with_method(
    plan: Plan, method: str | Method, config: Any, data: UnlearnData | None = None
) -> Plan:
    """Return `plan` for another method or other options.

    Args:
      plan: of a deletion.
      method: the method or its name.
      config: its options; None takes the defaults.
      data: what the method will see; None is what the plan lets it see.

    Raises:
      InputError: there is no such method, or its options do not fit the data.
    """
    method = unlearners.find(method)
    config = _with_recipe(as_config(method, config), plan.recipe)
    if data is None:
        spec = spec_of_split(plan.dataset, plan.split)
    else:
        spec = spec_of(data, plan.dataset.num_classes)
    unlearner = partly.build(method, plan.model, spec, config, plan.only)
    return plan._replace(method=method, config=config, unlearner=unlearner)


def as_config(method: Method, config: Any) -> Any:
    """Return the method's options: `config`, or the defaults where it is None."""
    if config is None:
        return method.config
    wanted = type(method.config).__name__
    if not isinstance(config, type(method.config)):
        raise InputError(f"config: is a {type(config).__name__}; {method.name} takes a {wanted}")
    return config


def _with_recipe(config: Any, recipe: Recipe) -> Any:
    """Return `config`; a method that trains from scratch does so as the references do."""
    if isinstance(config, RetrainConfig) and config.recipe is None:
        return replace(config, recipe=recipe)
    return config


def as_request(forget: Any, seed: int) -> requests.Request:
    """Return the request that `forget` stands for; `None` is a random tenth."""
    if isinstance(forget, requests.Request):
        return forget
    return requests.by_fraction(0.1, seed=seed) if forget is None else requests.by_ids(forget)


def as_dataset(
    data: str | Dataset,
    data_dir: str | None,
    train_size: int | None,
    seed: int,
    stream: bool = False,
) -> Dataset:
    """Return the data set that `data` names, or `data` itself once it has passed all checks."""
    if isinstance(data, str):
        return load(data, data_dir=data_dir, train_size=train_size, seed=seed, stream=stream)
    if not isinstance(data, Dataset):
        raise InputError(
            f"data: a {type(data).__name__} is neither a name nor a Dataset; "
            "make one by ltu_jax.from_arrays"
        )
    if train_size is not None:
        raise InputError(
            f"train_size {train_size}: draws from data sets given by name; "
            "take the subset before from_arrays"
        )
    if stream:
        raise InputError("stream: leaves data sets given by name on disk; leave it out")
    return validate(data)


def as_model(model: Any, dataset: Dataset) -> Model:
    """Return the network that `model` stands for; `None` picks one by the data."""
    if not isinstance(model, str | None):
        name = getattr(model, "__name__", type(model).__name__)
        return call(wrap, model, flag="model", name=name)
    if model is not None and model not in MODELS:
        return build(model, dataset.num_classes)
    if dataset.train.inputs.dtype == np.int32:
        raise InputError(
            f"--model {model}: integer inputs are taken for tokens, which no built-in network "
            "reads; give a network of yours, or features as float32"
        )
    if model is None:
        small = dataset.train.inputs.ndim != 4 or dataset.train.inputs.shape[1] < 16
        model = "mlp" if small else "cnn"
    return build(model, dataset.num_classes)


def trace(model: Model, dataset: Dataset) -> Variables:
    """Return the shapes of the network's variables; a network that does not fit is found here."""
    inputs = jnp.asarray(dataset.train.inputs[:1])
    try:
        like = jax.eval_shape(model.init, jax.random.key(0), inputs)
        logits, _ = jax.eval_shape(model.apply, like, inputs)
    except InputError:
        raise
    except Exception as error:  # whatever the network's own code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"--model {model.name}: does not take inputs of shape {list(inputs.shape)} ({reason}); "
            "give one that does"
        ) from error
    shape = getattr(logits, "shape", None)
    if shape != (1, dataset.num_classes):
        one_logit = shape in ((1,), (1, 1)) and dataset.num_classes == 2
        remedy = "; make two logits of one by ltu_jax.models.binary_head" if one_logit else ""
        found = f"a {type(logits).__name__}" if shape is None else f"logits of shape {list(shape)}"
        raise InputError(
            f"--model {model.name}: answers one example with {found}; "
            f"{dataset.name} needs {[1, dataset.num_classes]}{remedy}"
        )
    return like


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


def check_folder(out: str | os.PathLike | None) -> None:
    """Raise `InputError` unless a run may be written to `out`; creates nothing that stays."""
    if out is not None:
        check_path("--out", out)
    folder = Path("runs" if out is None else out)
    check_writable("--out", folder)
    if out is not None and folder.is_dir() and not _unused(folder):
        raise InputError(f"--out {folder}: holds another run or other files; name a new folder")


def check_writable(argument: str, folder: str | os.PathLike) -> None:
    """Raise `InputError` unless files can be written below `folder`; leaves nothing behind."""
    check_path(argument, folder)
    parent = folder = Path(folder)
    try:
        while not parent.exists():
            parent = parent.parent
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"{argument} {folder}: cannot write to {parent} ({error.strerror}); name another folder"
        ) from error


def _unused(folder: Path) -> bool:
    """Whether a folder is empty, but for what a run leaves that was stopped before it began."""
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".part-")}
    return left <= {"running", "request.json", "split.npz", pasts.NAME}


def make_folder(out: str | os.PathLike | None, name: str) -> Path:
    """Create the run's folder; without `out` the first free `runs/NAME-001`, `-002`, ..."""
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    name = re.sub(r"[^\w.-]+", "-", name)[:60]  # neither paths nor what no folder can be called
    for number in range(1, 10_000):
        folder = Path("runs") / f"{name}-{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InputError(f"runs/ holds 9,999 runs of {name}; name a folder with --out")
