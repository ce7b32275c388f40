"""What is compared, and how; checked when it is set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ltu_jax.unlearners as unlearners
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.errors import InputError, check_integer
from ltu_jax.runs.plan import check_writable
from ltu_jax.report.content import plain
from ltu_jax.runs.tuning import DEFAULT_TRIALS, check_trials
from ltu_jax.unlearners.base import Method

Select = Literal["oracle_free", "default", "oracle"]
Match = Literal["none", "data", "compute"]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes:
      out: the folder; one that holds rows of the same comparison is gone on with.
      data: as for `pipeline.unlearn`.
      data_dir: where TFDS keeps its data.
      train_size: train on a stratified subset of this size.
      model: as for `pipeline.unlearn`.
      epochs: passes over the data when training; None is the model's own number.
      methods: names, or `package.module:OBJECT` of your own; empty means all.
      scenarios: names in `SCENARIOS`.
      train_seeds: of subset, split and training; each has references of its own.
      unlearn_seeds: how often each method runs on each original, and as what number.
      retain_fraction: share of the retain set that methods may see.
      select: how options are chosen: without Retrain, not at all, or by the oracle.
      trials: how many options every method tries; the same for all.
      select_seed: the training seed on which options are chosen; not one of `train_seeds`.
      match: `data` also gives methods without membership models the validation images, labelled;
        `compute` scales their epochs or steps to LTU's floating-point operations.
      cache: folder of trained networks, shared by comparisons.
    """

    out: Path
    data: str = "digits"
    data_dir: str | None = None
    train_size: int | None = None
    model: str | None = None
    epochs: int | None = None
    methods: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ("random_10", "class")
    train_seeds: tuple[int, ...] = (0, 1, 2)
    unlearn_seeds: tuple[int, ...] = (0,)
    retain_fraction: float = 0.3
    select: Select = "oracle_free"
    trials: int = DEFAULT_TRIALS
    select_seed: int = 100
    match: Match = "none"
    cache: Path = Path("runs/cache")

    def __post_init__(self):
        for name in self.scenarios:
            if name not in SCENARIOS:
                raise InputError(f"--scenarios {name}: choose from {', '.join(SCENARIOS)}")
        for name in self.methods:
            unlearners.find(name, flag="--methods")
        for flag, value, choices in (
            ("--select", self.select, ("oracle_free", "default", "oracle")),
            ("--match", self.match, ("none", "data", "compute")),
        ):
            if value not in choices:
                raise InputError(f"{flag} {value}: choose one of {', '.join(choices)}")
        if not (self.train_seeds and self.unlearn_seeds and self.scenarios):
            raise InputError("--train-seeds, --unlearn-seeds, --scenarios: give at least one each")
        for flag, seeds in (
            ("--train-seeds", self.train_seeds),
            ("--unlearn-seeds", self.unlearn_seeds),
            ("--select-seed", (self.select_seed,)),
        ):
            for seed in seeds:
                check_integer(flag, seed)
                if seed < 0:
                    raise InputError(f"{flag} {seed}: give 0 or more")
        for flag, folder in (("--out", self.out), ("--cache", self.cache)):
            check_writable(flag, folder)
        check_trials(self.trials, "oracle_free")
        if self.select != "default" and self.select_seed in self.train_seeds:
            raise InputError(
                f"--select-seed {self.select_seed}: is one of --train-seeds; options may not be "
                "chosen on what the table reports"
            )

    @property
    def entries(self) -> dict[str, Method]:
        """The methods that run, by the names of their rows; the original is there anyway."""
        found = [unlearners.find(name) for name in self.methods or unlearners.METHODS]
        whole = self.retain_fraction == 1.0  # then `retrain_accessible` equals `retrain_2`
        left_out = ("nothing", "retrain_accessible") if whole else ("nothing",)
        return {entry.name: entry for entry in found if entry.name not in left_out}

    def config(self) -> dict[str, Any]:
        """Return what must be the same for rows to stand in one table."""
        shared = ("data", "train_size", "model", "epochs", "retain_fraction", "select", "match")
        chosen = ("trials", "select_seed") if self.select != "default" else ()
        return plain({name: getattr(self, name) for name in (*shared, *chosen)})
