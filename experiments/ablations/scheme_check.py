"""Does the meta scheme learn what support and query tasks share? A synthetic check.

    python -m experiments.ablations.scheme_check
    python -m experiments.ablations.scheme_check --quick

The paper's core assumption is that a gap between the tasks of meta-tune and meta-test makes the
scheme keep what is shared and drop what is not. Here both are known: the label depends on a shared
feature in all tasks alike, and on a nuisance feature whose sign is a task's own; in three of four
tasks it is the same, so that plain training on all data relies on it. A linear model is trained by
the scheme with support and query from different tasks, with both from the same task (no gap), with
inner steps of length 0 (no scheme), and of first order. Measured: the weight on the shared feature
over the sum of both, and the accuracy on a task with the nuisance reversed. 20 draws of the data,
half a minute. Writes `experiments/results/scheme_check.json` and `docs/scheme_check.png`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import study, tables
from experiments.lib.provenance import command_source
from ltu_jax.report.comparison.table import interval
from ltu_jax.unlearners.ltu import InnerStep, meta_gradient

SIGNS = jnp.array([1.0, 1.0, 1.0, -1.0])  # of the nuisance, by task
SHARED, NUISANCE, NOISE = 1.0, 1.0, 1.0  # strengths
INNER_LRS = (0.0, 0.1, 0.3, 1.0, 3.0)
EXAMPLES = 200  # of a task


class Way(NamedTuple):
    """A way to train.

    Attributes:
      gap: whether support and query come from different tasks.
      order: of the meta-gradient.
      inner_lr: 0 is plain training on the query task.
    """

    gap: bool
    order: int
    inner_lr: float


def main(args: Sequence[str] | None = None) -> None:
    """Train by each scheme and draw the results."""
    study.main("scheme_check", compute, draw=draw, render=tables.scheme, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return the measurements of each way to train."""
    draws, steps = (3, 50) if options.quick else (20, 500)
    inner_lrs = INNER_LRS[-1:] if options.quick else INNER_LRS
    ways = [Way(gap, order, lr) for gap in (True, False) for order in (2, 1) for lr in inner_lrs]
    return {
        "source": command_source("ablations.scheme_check"),
        "config": {"draws": draws, "steps": steps, "signs": SIGNS.tolist()},
        "ways": [{**way._asdict(), **measure(way, draws, steps)} for way in ways],
    }


def measure(way: Way, draws: int, steps: int) -> dict[str, Any]:
    """Return the share of the shared weight and the accuracy where the nuisance is reversed."""
    keys = jax.random.split(jax.random.key(0), draws)
    found = jax.jit(jax.vmap(partial(train, way=way, steps=steps)))(keys)
    shared, accuracy = (np.asarray(values) for values in found)
    return {"shared": interval(shared), "reversed": interval(100 * accuracy)}


def train(key: jax.Array, *, way: Way, steps: int) -> tuple[jax.Array, jax.Array]:
    """Train a linear model on one draw of the data; return what `measure` is made of."""
    data_key, order_key, test_key = jax.random.split(key, 3)
    tasks = jax.vmap(draw_task)(jax.random.split(data_key, len(SIGNS)), SIGNS)
    inner = InnerStep(lr=way.inner_lr, order=way.order, tune_weight=0.0)

    def step(weights: jax.Array, step_key: jax.Array) -> tuple[jax.Array, None]:
        first, second = jax.random.permutation(step_key, len(SIGNS))[:2]
        support = jax.tree.map(lambda x: x[first if way.gap else second], tasks)
        query = jax.tree.map(lambda x: x[second], tasks)
        gradient, _ = meta_gradient(
            lambda w: loss(w, support), lambda w: loss(w, query)[None], weights, inner
        )
        return weights - 0.1 * gradient, None

    weights, _ = jax.lax.scan(step, jnp.zeros(2), jax.random.split(order_key, steps))
    inputs, labels = draw_task(test_key, jnp.array(-1.0))
    size = jnp.abs(weights)
    return size[0] / (size.sum() + 1e-12), jnp.mean((inputs @ weights > 0) == (labels > 0))


def draw_task(key: jax.Array, sign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return inputs `[n, 2]`, shared and nuisance feature, and labels `[n]` of -1 or 1."""
    label_key, noise_key = jax.random.split(key)
    labels = jax.random.rademacher(label_key, (EXAMPLES,), float)
    means = labels[:, None] * jnp.array([SHARED, NUISANCE]) * jnp.stack([jnp.ones(()), sign])
    return means + NOISE * jax.random.normal(noise_key, (EXAMPLES, 2)), labels


def loss(weights: jax.Array, task: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return the mean logistic loss."""
    inputs, labels = task
    return jnp.mean(jax.nn.softplus(-labels * (inputs @ weights)))


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of the share of the shared weight against the inner step's length."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    titles = {
        "shared": "weight on the shared feature",
        "reversed": "accuracy, nuisance reversed, %",
    }
    for panel, (measured, title) in zip(panels, titles.items(), strict=True):
        for gap in (True, False):
            for order, style in ((2, "-"), (1, ":")):
                some = [
                    way for way in results["ways"] if (way["gap"], way["order"]) == (gap, order)
                ]
                low, high = ([way[measured][i] for way in some] for i in (1, 2))
                name = f"{'other' if gap else 'same'} task, order {order}"
                at = range(len(some))
                middle = [way[measured][0] for way in some]
                colour = "C0" if gap else "C1"
                panel.plot(at, middle, style, color=colour, label=name)
                panel.fill_between(at, low, high, alpha=0.2, color=colour, lw=0)
        panel.set_xticks(range(len(INNER_LRS)), INNER_LRS)
        panel.set(xlabel="inner_lr", ylabel=title)
    panels[0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
