"""One setting and training seed of a comparison: its models, trained once, and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.unlearners as unlearners
from ltu_jax.audit.measure import measure_model
from ltu_jax.audit.summary import Row, with_gaps
from ltu_jax.data import load
from ltu_jax.data.scenarios import SCENARIOS, Scenario
from ltu_jax.runs.comparison.cache import cached_model
from ltu_jax.runs.models import REFERENCES, initial_parameters, unlearn_model
from ltu_jax.runs.plan import Plan, make_plan, with_method
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.training.invariants import check_reinitialised
from ltu_jax.training.loop import History
from ltu_jax.training.supervised import predict
from ltu_jax.types import TrainedModel


class Setting(NamedTuple):
    """Data, model and forget set of a comparison.

    Attributes:
      data: data set, as for `ltu_jax.unlearn`; so are the next two.
      train_size: number of training examples; None takes all.
      model: model; None chooses one by the data.
      forget: name of the scenario.
      retain_fraction: share of the retain set that methods may see.
      epochs: passes over the data in training; None is the model's default.
    """

    data: str = "digits"
    train_size: int | None = None
    model: str | None = None
    forget: str = "random_10"
    retain_fraction: float = 0.3
    epochs: int | None = None


class Bench:
    """A setting and a training seed; data set, split and models are made when they are needed.

    Args:
      setting: data, model and forget set.
      seed: training seed: of subset, split, training and unlearning.
      cache: folder of trained models.
      data_dir: folder of prepared TFDS data.
      scenarios: scenarios by name.
      checkpoint: trained model to take as the original of every seed; None trains it.
    """

    def __init__(
        self,
        setting: Setting,
        seed: int,
        *,
        cache: Path,
        data_dir: str | None = None,
        scenarios: Mapping[str, Scenario] = SCENARIOS,
        checkpoint: str | None = None,
    ):
        self.checkpoint = checkpoint
        self.setting, self.seed, self.cache, self.data_dir = setting, seed, cache, data_dir
        self.scenario = scenarios[setting.forget]
        self._models: dict[str, TrainedModel] = {}

    @cached_property
    def plan(self) -> Plan:
        """The deletion, without a method yet."""
        s = self.setting
        dataset = self.scenario.dataset(
            load(s.data, data_dir=self.data_dir, train_size=s.train_size, seed=self.seed)
        )
        spec = RunSpec(
            data=None,
            model=s.model,
            method="nothing",
            retain_fraction=s.retain_fraction,
            epochs=s.epochs,
            seed=self.seed,
            checkpoint=self.checkpoint,
        )

        def outputs() -> np.ndarray:  # the original's training does not depend on the forget set
            plan = make_plan(spec, None, InMemory(dataset))
            original = self._trained(plan, "original")
            return np.asarray(predict(plan.model, original.variables, dataset.train.inputs))

        request = self.scenario.request(self.seed, dataset, outputs)
        return make_plan(spec, request, InMemory(dataset))

    def model(self, name: str) -> TrainedModel:
        """Return `original`, or a retrained model that shares no parameter with it."""
        if name not in self._models:
            model = self._trained(self.plan, name)
            if name in REFERENCES:
                check_reinitialised(
                    model.variables.params,
                    self.model("original").variables.params,
                    partial(initial_parameters, self.plan),
                )
            self._models[name] = model
        return self._models[name]

    def _trained(self, plan: Plan, name: str) -> TrainedModel:
        if name == "original" and plan.original is not None:
            return TrainedModel(plan.original, float("nan"))
        return cached_model(self.cache, plan, name)

    def unlearned(self, method: str, options: Mapping[str, Any]) -> tuple[TrainedModel, History]:
        """Return what a method with these options makes of the original, and its history."""
        entry = unlearners.find(method)
        plan = with_method(self.plan, entry, unlearners.configure(entry, options))
        return unlearn_model(plan, self.model("original").variables)

    def measure(self, name: str, model: TrainedModel) -> dict[str, Any]:
        """Return the report's metrics of a model, its gaps to Retrain and its relative run time."""
        row = self._retrain if name == "retrain" else self._row(name, model)
        values = with_gaps([self._retrain, row])[-1]._asdict()
        del values["model"]  # the result names its method
        return {**values, "rte": row.seconds / self._retrain.seconds}

    @cached_property
    def _retrain(self) -> Row:
        return self._row("retrain", self.model("retrain"))

    def _row(self, name: str, model: TrainedModel) -> Row:
        return measure_model(self.plan.problem, name, model).row
