"""One scenario and training seed of a comparison, and the rows that it yields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import ltu_jax.unlearners as unlearners
from ltu_jax.audit.summary import Row, with_gaps
from ltu_jax.runs.comparison.cache import cached_network
from ltu_jax.runs.comparison.options import Comparison
from ltu_jax.data.scenarios import SCENARIOS
from ltu_jax.data import load
from ltu_jax.errors import DivergedError, InputError, InvariantError
from ltu_jax.audit.measure import measure_model
from ltu_jax.runs.networks import RETRAINED, unlearn_network
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan, make_plan, visible_data, with_method
from ltu_jax.report.content import plain
from ltu_jax.files import write_json
from ltu_jax.runs.tuning import select
from ltu_jax.training.invariants import check_reinitialised
from ltu_jax.training.loop import Cost, step_cost
from ltu_jax.types import UnlearnData
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.sampling import (concatenate)

_NUMBERS = ("ua", "ra", "ta", "mia", "avg_gap", "auc", "ks", "seconds")


class Cell:
    """A scenario and a training seed: data set, split and networks, each made when needed."""

    def __init__(self, comparison: Comparison, scenario: str, seed: int):
        self.comparison, self.scenario, self.seed = comparison, scenario, seed
        self._networks: dict[str, TrainedModel] = {}

    @cached_property
    def plan(self) -> Plan:
        """The deletion, for a method yet to be named."""
        scenario, c = SCENARIOS[self.scenario], self.comparison
        dataset = scenario.dataset(
            load(c.data, data_dir=c.data_dir, train_size=c.train_size, seed=self.seed)
        )
        return make_plan(
            dataset,
            scenario.request(self.seed, dataset),
            model=c.model,
            retain_fraction=c.retain_fraction,
            reference="retrain",
            epochs=c.epochs,
            seed=self.seed,
        )

    def network(self, name: str) -> Network:
        """Return the original, or a retrained network that owes it no parameter."""
        if name not in self._networks:
            network = cached_network(self.comparison.cache, self.plan, name)
            if name in RETRAINED:
                check_reinitialised(network.variables.params, self.network("original").variables.params)
            self._networks[name] = network
        return self._networks[name]

    @cached_property
    def retrain_row(self) -> Row:
        """What the gaps of all rows are taken to."""
        return measure_model(self.plan.problem, "retrain", self.network("retrain")).row

    def row(self, name: str, repeat: int) -> dict[str, Any]:
        """Return the row of that name: of a method, of the original or of a retrained network."""
        about = {
            "method": name,
            "scenario": self.scenario,
            "train_seed": self.seed,
            "unlearn_seed": repeat,
            "selected_by": None,
            "options": {},
            "failure": None,
        }
        if name == "retrain":
            return {**about, **self._against_retrain(self.retrain_row)}
        if name in ("retrain_2", "nothing"):
            network = self.network("original" if name == "nothing" else name)
            return {**about, **self._against_retrain(self._measured(name, network))}
        method = self.comparison.entries[name]
        try:
            about["options"], about["selected_by"] = self._options(method)
            measured, peak_bytes = self._unlearned(method, about["options"], repeat)
        except (DivergedError, InvariantError, InputError) as error:
            return {**about, **dict.fromkeys(_NUMBERS), "failure": str(error)}
        return {**about, **self._against_retrain(measured), "peak_bytes": peak_bytes}

    def _unlearned(
        self, method: Method, options: Mapping[str, Any], repeat: int
    ) -> tuple[Row, int | None]:
        data = visible_data(self.plan.dataset, self.plan.split)
        plan, data = self._matched(method, options, data)
        network, _ = unlearn_network(
            plan, self.network("original").variables, data=data, repeat=repeat
        )
        return self._measured(method.name, network), self._peak_bytes(plan, data)

    def _measured(self, name: str, network: TrainedModel) -> Row:
        return measure_model(self.plan.problem, name, network).row

    def _against_retrain(self, row: Row) -> dict[str, Any]:
        values = with_gaps([self.retrain_row, row])[-1]._asdict()
        del values["model"]  # the row's `method` says it
        return {**values, "rte": row.seconds / self.retrain_row.seconds}

    def _options(self, method: Method) -> tuple[dict[str, Any], str]:
        """Return the options of a method and who chose them."""
        c = self.comparison
        if c.select == "default" or not method.space:
            return {}, "default"
        path = c.out / "tuning" / f"{self.scenario}-{method.name}.json"
        if not path.exists():
            write_json(path, plain(Cell(c, self.scenario, c.select_seed).choose(method)))
        return json.loads(path.read_text(encoding="utf-8"))["options"], c.select

    def choose(self, method: Method) -> dict[str, Any]:
        """Run the trials of a method on this cell and return all of them and the choice."""

        def oracle(network: TrainedModel) -> float:
            return self._against_retrain(self._measured(method.name, network))["avg_gap"]

        selection = select(
            with_method(self.plan, method, None),
            self.network("original").variables,
            trials=self.comparison.trials,
            oracle=oracle if self.comparison.select == "oracle" else None,
        )
        return {**selection.describe(), "scenario": self.scenario, "train_seed": self.seed}

    def _matched(
        self, method: Method, options: Mapping[str, Any], data: UnlearnData
    ) -> tuple[Plan, UnlearnData]:
        """Return the plan of a method and the data that it sees, under the control asked for."""
        match = self.comparison.match
        config = unlearners.configure(method, options)
        plan = with_method(self.plan, method, config, data)
        if plan.unlearner.invariants.uses_validation or match == "none":
            return plan, data
        if match == "data":
            data = data._replace(retain=concatenate(data.retain, data.validation))
            return with_method(plan, method, config, data), data
        knob = next((name for name in ("epochs", "steps") if hasattr(config, name)), None)
        if knob is None:
            return plan, data  # a method that is done in one pass has no use for more compute
        ratio = self._ltu_flops / self._flops(plan, data)
        config = replace(config, **{knob: max(1, round(getattr(config, knob) * ratio))})
        return with_method(plan, method, config, data), data

    @cached_property
    def _ltu_flops(self) -> float:
        data = visible_data(self.plan.dataset, self.plan.split)
        ltu = unlearners.find("ltu")
        config = unlearners.configure(ltu, self._options(ltu)[0])
        return self._flops(with_method(self.plan, ltu, config), data)

    def _flops(self, plan: Plan, data: UnlearnData) -> float:
        return plan.unlearner.num_steps * self._cost(plan, data).flops

    def _peak_bytes(self, plan: Plan, data: UnlearnData) -> int | None:
        # Compiling for this alone is dear; the seeds of a scenario differ by a few examples.
        peaks = self.comparison.out / "peaks" / f"{self.scenario}-{plan.method.name}.json"
        if not peaks.exists():
            write_json(peaks, self._cost(plan, data).peak_bytes or None)
        return json.loads(peaks.read_text(encoding="utf-8"))

    def _cost(self, plan: Plan, data: UnlearnData) -> Cost:
        return step_cost(plan.unlearner, self.network("original").variables, data)
