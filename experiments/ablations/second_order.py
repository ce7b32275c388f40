"""What do second derivatives cost, what do cheaper forms, and how close to Retrain is each?

    python -m experiments.ablations.second_order --data-dir DIR
    python -m experiments.ablations.second_order --quick

Every variant of LTU in four forms: exact, of first order, with inner steps that move the last layer
only, and with a smaller batch under random labels. The cost of a step is counted in forward passes
over one image, and timed against the exact step, all forms in turn in one process. The control
without the meta scheme is in the table, too. CIFAR-10, 5,000 images, `mlp`, a random 10 %, with the
default options of each variant. Writes `experiments/results/second_order.json`; half an hour on two
cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.lib import study, tables
from experiments.lib.settings import PRIMARY, QUICK, QUICK_OPTIONS
from experiments.performance.counting import Images, ltu_units
from experiments.performance.steps import prepare_step
from experiments.performance.timing import interleave, ratios
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Variant, variant
from ltu_jax.runs.plan import visible_data
from ltu_jax.unlearners import METHODS, configure
from ltu_jax.unlearners.base import spec_of

VARIANTS = ("ltu", "ltu_paper", "ltu_calibrated", "ltu_joint")
CONTROL = "mi_match"
INNER_STEPS = ("random_label_inner", "membership_inner")
FORMS: Mapping[str, Mapping[str, Any]] = {
    "exact": {},
    "first order": {name: {"order": 1} for name in INNER_STEPS},
    "last layer": {name: {"layers": 1} for name in INNER_STEPS},
    "8 random labels": {"support_size": 8},
}


@dataclass(frozen=True)
class Plan:
    """Grid of the experiment; see the constants."""

    setting: Setting = PRIMARY
    variants: tuple[str, ...] = VARIANTS
    forms: tuple[str, ...] = tuple(FORMS)
    options: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 9


QUICK_PLAN = Plan(QUICK, ("ltu",), ("exact", "last layer"), QUICK_OPTIONS, (0,), 1)


def main(args: Sequence[str] | None = None) -> None:
    """Make and collect the results."""
    study.main("second_order", compute, render=tables.second_order, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return cost and metrics of each variant in each form."""
    plan = QUICK_PLAN if options.quick else Plan()
    forms = {
        (method, form): variant(method, **{**plan.options, **FORMS[form]})
        for method in plan.variants
        for form in plan.forms
    }
    references = (*study.REFERENCES, variant(CONTROL))
    jobs = [
        Job(plan.setting, one, seed)
        for one in (*references, *forms.values())
        for seed in plan.seeds
    ]
    results = study.results_of(jobs, options)

    def summary(one: Variant) -> dict[str, Any]:
        return study.summary(results, [Job(plan.setting, one, seed) for seed in plan.seeds])

    return {
        "source": study.source("ablations.second_order --data-dir DIR", results.values()),
        "config": {"setting": plan.setting._asdict(), "seeds": plan.seeds, "rounds": plan.rounds},
        "rows": [
            {"method": method, "form": form, "images": passes(method, one), **summary(one)}
            for (method, form), one in forms.items()
        ],
        "times": {method: times(method, plan, options) for method in plan.variants},
        "references": {one.method: summary(one) for one in references},
    }


def passes(method: str, one: Variant) -> int:
    """Return the forward passes over one image that a step costs, of a net without BatchNorm."""
    config = configure(METHODS[method], Job(PRIMARY, one, 0).options)
    queries = len(config.query_sampling) * config.query_size
    inner = config.membership_inner
    units = ltu_units(
        Images(config.support_size, config.audit_size, queries),
        inner.order,
        has_statistics=False,
        last_layer=inner.layers > 0,
    )
    return sum(units.values())


def times(method: str, plan: Plan, options: study.Options) -> dict[str, list[float]]:
    """Return what a step of each form, and of the control, takes over the first form's."""
    bench = study.bench(plan.setting, plan.seeds[0], options.data_dir)
    data, model = visible_data(bench.plan.dataset, bench.plan.split), bench.plan.problem.model
    variables = bench.model("original").variables
    configs = {
        form: (method, configure(METHODS[method], {**plan.options, **FORMS[form]}))
        for form in plan.forms
    }
    configs[CONTROL] = CONTROL, METHODS[CONTROL].config
    spec = spec_of(data, bench.plan.dataset.num_classes)
    steps = {
        name: prepare_step(METHODS[of].build(model, spec, config), variables, data)
        for name, (of, config) in configs.items()
    }
    seconds = interleave({name: step.once for name, step in steps.items()}, plan.rounds)
    found = {name: ratios(seconds, name, plan.forms[0]) for name in steps}
    return {name: each for name, each in found.items() if each}


if __name__ == "__main__":
    main()
