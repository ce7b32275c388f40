"""Options of a comparison, checked when they are set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import ltu_jax.paths as paths
import ltu_jax.unlearners as unlearners
from ltu_jax.data.request import Request, by_ids
from ltu_jax.data.scenarios import SCENARIOS, Scenario, own_ids
from ltu_jax.errors import InputError, check_integer
from ltu_jax.files import digest
from ltu_jax.report.content import plain
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.folder import check_writable
from ltu_jax.runs.spec import check_trials
from ltu_jax.runs.tuning import DEFAULT_TRIALS
from ltu_jax.unlearners.base import Method

Select = Literal["oracle_free", "default", "oracle"]
Match = Literal["none", "data", "compute"]
DEFAULT_SCENARIOS = ("random_10", "class")


@dataclass(frozen=True)
class Comparison:
    """Methods, scenarios and seeds to compare, and how.

    Attributes:
      out: results folder; a comparison in it continues.
      data: data set, as for `ltu_jax.unlearn`.
      data_dir: folder of prepared TFDS data.
      train_size: size of a stratified training subset; None takes all.
      model: model, as for `ltu_jax.unlearn`.
      epochs: passes over the data in training; None is the model's default.
      checkpoint: trained model to take as the original of every seed; None trains it.
      forget_ids: file of ids to forget in every seed, in place of `scenarios`.
      forget_id_column: CSV column and group column of these ids.
      methods: names, or `package.module:OBJECT` of your own; empty means all.
      scenarios: names in `SCENARIOS`.
      train_seeds: seeds of subset, split and training; each has its own retrained models.
      unlearn_seeds: numbers of the runs of a method on each original model.
      retain_fraction: share of the retain set that methods may see.
      select: how options are chosen: without Retrain, defaults, or by the oracle.
      trials: number of options that every method tries.
      select_seed: training seed on which options are chosen; not one of `train_seeds`.
      match: `data` adds the labelled validation images for methods without membership models;
        `compute` scales their epochs or steps to LTU's floating-point operations.
      cache: folder of trained models, shared by comparisons.
    """

    out: Path
    data: str = "digits"
    data_dir: str | None = None
    train_size: int | None = None
    model: str | None = None
    epochs: int | None = None
    checkpoint: str | None = None
    forget_ids: Path | None = None
    forget_id_column: str | None = None
    methods: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = DEFAULT_SCENARIOS
    train_seeds: tuple[int, ...] = (0, 1, 2)
    unlearn_seeds: tuple[int, ...] = (0,)
    retain_fraction: float = 0.3
    select: Select = "oracle_free"
    trials: int = DEFAULT_TRIALS
    select_seed: int = 100
    match: Match = "none"
    cache: Path = Path("runs/cache")

    def __post_init__(self):
        self._take_ids()
        for name in self.scenarios:
            _check_choice("scenarios", name, SCENARIOS)
        for name in self.methods:
            unlearners.find(name, argument="methods")
        _check_choice("select", self.select, ("oracle_free", "default", "oracle"))
        _check_choice("match", self.match, ("none", "data", "compute"))
        for argument in ("train_seeds", "unlearn_seeds", "scenarios"):
            if not getattr(self, argument):
                raise InputError(argument, "is empty", "give at least one")
        seeds = {name: getattr(self, name) for name in ("train_seeds", "unlearn_seeds")}
        for argument, values in {**seeds, "select_seed": (self.select_seed,)}.items():
            for seed in values:
                check_integer(argument, seed)
                if seed < 0:
                    raise InputError(argument, f"includes {seed}", "give 0 or more")
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", paths.anywhere("checkpoint", self.checkpoint))
        for name in ("out", "cache"):
            check_writable(name, getattr(self, name))
            object.__setattr__(self, name, paths.local(name, getattr(self, name)))
        check_trials(self.trials, "oracle_free")
        if self.select != "default" and self.select_seed in self.train_seeds:
            raise InputError(
                "select_seed",
                f"{self.select_seed} is one of `train_seeds`, which the table reports",
                "choose another seed",
            )

    def _take_ids(self) -> None:
        """Have the file of ids take the place of the scenarios."""
        if self.forget_ids is None:
            if self.forget_id_column is not None or "ids" in self.scenarios:
                raise InputError("forget_ids", "is missing", "give the file of ids to forget")
            return
        if self.scenarios not in (DEFAULT_SCENARIOS, ("ids",)):
            problem = f"are {', '.join(self.scenarios)}, but `forget_ids` is given"
            raise InputError("scenarios", problem, "leave one of the two out")
        object.__setattr__(self, "scenarios", ("ids",))
        _ = self.request

    @cached_property
    def request(self) -> Request | None:
        """The examples to forget in every seed; None if the scenarios choose them."""
        if self.forget_ids is None:
            return None
        return by_ids(self.forget_ids, column=self.forget_id_column)

    @property
    def scenario_table(self) -> Mapping[str, Scenario]:
        """The scenarios by name, that of the given ids among them."""
        return {**SCENARIOS, "ids": own_ids(self.request)}

    @property
    def entries(self) -> dict[str, Method]:
        """The methods, by the model labels of their results; the original is always included."""
        found = [unlearners.find(name) for name in self.methods or unlearners.METHODS]
        whole = self.retain_fraction == 1.0  # then `retrain_accessible` equals `retrain_2`
        left_out = ("nothing", "retrain_accessible") if whole else ("nothing",)
        return {entry.name: entry for entry in found if entry.name not in left_out}

    def setting(self, scenario: str) -> Setting:
        """Return data, model and forget set of a scenario."""
        return Setting(
            self.data, self.train_size, self.model, scenario, self.retain_fraction, self.epochs
        )

    def config(self) -> dict[str, Any]:
        """Return what results of one table have in common."""
        shared = ("data", "train_size", "model", "epochs", "retain_fraction", "select", "match")
        chosen = ("trials", "select_seed") if self.select != "default" else ()
        config = {name: getattr(self, name) for name in (*shared, *chosen)}
        if self.checkpoint is not None:
            config["checkpoint"] = self.checkpoint
        if self.request is not None:
            config["request"] = digest("\n".join(self.request.value).encode())
        return plain(config)


def _check_choice(argument: str, value: str, choices) -> None:
    if value not in choices:
        raise InputError(argument, f"{value!r} is unknown", f"choose from {', '.join(choices)}")
