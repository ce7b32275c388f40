"""Self-check of the audit: its code on cases with known answers.

Noise is not evidence, equal distributions have distance 0, and models that were never unlearned or
that unlearning has destroyed are detected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import scipy

from ltu_jax.audit import distances, epsilon, evidence, one_run, roc
from ltu_jax.audit.ensembles import ensemble_margins
from ltu_jax.data.request import by_fraction
from ltu_jax.errors import InputError
from ltu_jax.runs.plan import Plan, make_plan, on_device
from ltu_jax.runs.spec import RunSpec
from ltu_jax.training.ensembles import train_members
from ltu_jax.types import Examples, Variables

if TYPE_CHECKING:
    from rich.table import Table

ALPHA = 0.05
DRAWS = 200  # of each null calibration
MODELS = 24  # a side
EPOCHS = 15


class Check(NamedTuple):
    """A case with a known answer.

    Attributes:
      name: the case.
      expected: its known answer.
      result: the audit's answer.
      passed: whether they agree.
    """

    name: str
    expected: str
    result: str
    passed: bool


def run(seed: int = 0) -> list[Check]:
    """Run all cases.

    Raises:
      InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError("seed", f"is {seed}", "give an integer of at least 0")
    return [*statistics(seed), *models(seed)]


def statistics(seed: int) -> Iterator[Check]:
    """Yield the cases that need scores only."""
    rng = np.random.default_rng(seed)
    auc = roc.roc_auc(rng.normal(size=4000), rng.normal(size=4000))
    reach = 4 * np.sqrt(8001 / (12 * 4000**2))
    yield Check("random scores", "AUC 0.5", f"AUC {auc:.3f}", abs(auc - 0.5) < reach)

    most = int(scipy.stats.binom.isf(1e-4, DRAWS, ALPHA))
    for name, finds_evidence in _null_draws(rng).items():
        count = sum(finds_evidence() for _ in range(DRAWS))
        yield Check(
            f"{name} on noise",
            f"evidence in at most {most} of {DRAWS}",
            f"in {count}",
            count <= most,
        )
    margins = rng.normal(size=(50, 20))
    klom = float(np.max(distances.klom(margins, margins)))
    yield Check("KLoM of an ensemble and itself", "0", f"{klom:.3f}", abs(klom) < 1e-9)
    first, second = rng.normal(size=(2, 100))
    swap = one_run.swap_difference(first, second, second, first)
    yield Check("SWAP of one model for both roles", "0", f"{swap:.3f}", swap == 0)


def _null_draws(rng: np.random.Generator):
    """Return, for each bound, a function that tests it on fresh noise."""

    def scores() -> np.ndarray:
        return rng.normal(size=(2, 100))

    def right() -> int:
        return int(rng.binomial(60, 0.5))

    return {
        "epsilon, split threshold": lambda: (
            epsilon.epsilon_lower_bound(*scores(), alpha=ALPHA).epsilon > 0
        ),
        "epsilon, fixed threshold": lambda: (
            epsilon.epsilon_lower_bound(
                *scores(), alpha=ALPHA, rule="threshold", threshold=0.0
            ).epsilon
            > 0
        ),
        "GDP mu": lambda: epsilon.gdp_mu_lower_bound(*scores(), alpha=ALPHA) > 0,
        "one-run epsilon": lambda: one_run.one_run_bound(100, 60, right(), alpha=ALPHA).epsilon > 0,
        "group one-run epsilon": lambda: one_run.group_bound(right(), 60, alpha=ALPHA).epsilon > 0,
    }


def models(seed: int) -> Iterator[Check]:
    """Yield the cases that need small models, trained on the digits."""
    spec = RunSpec(model="mlp", method="nothing", epochs=EPOCHS, seed=seed)
    # Retrained models are right on some of a random tenth, so that over-unlearning can be seen.
    plan = make_plan(spec, by_fraction(0.1, seed=seed))
    keys = jax.random.split(jax.random.key(seed), 3 * MODELS).reshape(3, MODELS)
    everything = np.arange(len(plan.dataset.train.labels))
    original = _train(plan, everything, keys[0])
    retrained, again = (_train(plan, plan.split.retain, own) for own in keys[1:])
    destroyed = _destroy(jax.random.key(seed), original)
    target = _margins(plan, retrained)
    for name, variables, answer in (
        ("retrained models", again, "not rejected"),
        ("original models", original, "rejected, under-unlearned"),
        ("models destroyed by unlearning", destroyed, "rejected, over-unlearned"),
    ):
        tested = evidence.distinguish(_margins(plan, variables), target, alpha=ALPHA, seed=seed)
        # A tenth of the level, so that the answer is the known one for any seed.
        rejected = tested["p_value"] < ALPHA / 10
        direction = "under-unlearned" if tested["shift"] > 0 else "over-unlearned"
        actual = f"rejected, {direction}" if rejected else "not rejected"
        yield Check(name, answer, f"{actual}: AUC {tested['auc']:.0f} %", actual == answer)


def _destroy(key: jax.Array, variables: Variables) -> Variables:
    """Return the models with noise on every parameter, as large as its standard deviation."""
    leaves, structure = jax.tree.flatten(variables.params)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + leaf.std() * jax.random.normal(own, leaf.shape)
        for own, leaf in zip(keys, leaves, strict=True)
    ]
    return variables._replace(params=structure.unflatten(noisy))


def _train(plan: Plan, rows: np.ndarray, keys: jax.Array) -> Variables:
    train = plan.dataset.train
    examples = on_device(train, np.arange(len(train.labels)))
    return train_members(
        plan.model, examples, np.tile(rows, (len(keys), 1)), plan.recipe, keys=keys
    )


def _margins(plan: Plan, variables: Variables) -> np.ndarray:
    train, forget = plan.dataset.train, plan.split.forget
    examples = Examples(train.inputs[forget], train.labels[forget])
    return ensemble_margins(plan.model, variables, examples)


def table(checks: list[Check]) -> Table:
    """Return the cases as a table for the terminal."""
    from rich import box
    from rich.table import Table

    shown = Table("case", "known answer", "result", "", box=box.SIMPLE_HEAD)
    for check in checks:
        mark = "[green]right[/green]" if check.passed else "[red]WRONG[/red]"
        shown.add_row(check.name, check.expected, check.result, mark)
    return shown
