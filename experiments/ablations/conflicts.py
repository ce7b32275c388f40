"""How often do remembering and forgetting conflict, where, and what does harmonisation change?

    python -m experiments.ablations.conflicts --data-dir DIR
    python -m experiments.ablations.conflicts --quick

The cosine of the two gradients of LTU over its steps, layer by layer, and over the settings of
`experiments.comparison.claims` with `mlp`, and the gap to Retrain with and without harmonisation.
A sanity case has two gradients of a known angle. The results are shared with
`experiments.comparison.claims`; the layers take some minutes more. Writes
`experiments/results/conflicts.json` and `docs/conflicts.png`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ltu_jax.unlearners as unlearners
from experiments.lib import study, tables
from experiments.lib.settings import LTU, PRIMARY, QUICK, QUICK_OPTIONS, SETTINGS
from ltu_jax.report.comparison.table import interval
from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Result, Variant, variant
from ltu_jax.runs.plan import visible_data
from ltu_jax.types import PyTree
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import LTUConfig, diagnostics, harmonize, ltu, meta_gradient
from ltu_jax.unlearners.ltu.algorithm import ltu_tasks, split_tasks
from ltu_jax.unlearners.ltu.tasks import Losses

SETTINGS_OF_MLP = {name: one for name, one in SETTINGS.items() if one[0].model == "mlp"}
PAIR = {"with": LTU["LTU"], "without": LTU["without harmonisation"]}


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("conflicts", compute, draw=draw, render=tables.conflicts, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return cosines and gaps by setting, cosines by parameter tensor, and the sanity case."""
    settings, pair = SETTINGS_OF_MLP, PAIR
    if options.quick:
        settings, few = {"digits": (QUICK, (0,))}, {**QUICK_OPTIONS, "steps": 10}
        pair = {
            "with": variant("ltu", **few),
            "without": variant("ltu", harmonize="none", **few),
        }
    results = study.results_of(
        [
            Job(setting, one, seed)
            for setting, seeds in settings.values()
            for one in (*study.REFERENCES, *pair.values())
            for seed in seeds
        ],
        options,
    )
    of_layers = QUICK if options.quick else PRIMARY
    return {
        "source": study.source("ablations.conflicts --data-dir DIR", results.values()),
        "sanity": sanity(),
        "settings": {
            name: compare(results, setting, seeds, pair)
            for name, (setting, seeds) in settings.items()
        },
        "layers": layers(of_layers, pair["with"], options.data_dir, every=5),
    }


def sanity() -> list[dict[str, float]]:
    """Return what two-way harmonisation leaves of gradients of known length and angle.

    Of each gradient g the direction keeps (1 - c^2) |g|^2 along g, where c is their cosine.
    """
    found = []
    for cosine in (0.5, 0.0, -0.25, -0.5, -0.9, -0.99):
        remember = jnp.array([1.0, 0.0])
        forget = 2.0 * jnp.array([cosine, float(np.sqrt(1 - cosine**2))])
        direction, _ = harmonize(remember, forget)
        added = remember + forget
        found.append(
            {
                "cosine": cosine,
                "along_remember": float(direction @ remember),
                "along_forget": float(direction @ forget),
                "closed_form_remember": 1 - cosine**2 if cosine < 0 else float(added @ remember),
                "closed_form_forget": 4 * (1 - cosine**2) if cosine < 0 else float(added @ forget),
                "removed": float(diagnostics.share_removed(cosine)),
            }
        )
    return found


def compare(
    results: Mapping[Job, Result],
    setting: Setting,
    seeds: Sequence[int],
    pair: Mapping[str, Variant],
) -> dict[str, Any]:
    """Return the cosine of the two gradients, and gaps with and without harmonisation."""
    gaps = {
        name: [results[Job(setting, one, seed)]["avg_gap"] for seed in seeds]
        for name, one in {**pair, "second Retrain": variant("retrain_2")}.items()
    }
    cosines = [results[Job(setting, pair["with"], seed)]["conflicts"] for seed in seeds]
    return {
        **{
            name: interval([one[name] for one in cosines])
            for name in ("share", "mean", "norm_ratio")
        },
        "deciles": np.mean([one["deciles"] for one in cosines], axis=0),
        "by_tenth": np.mean([one["by_tenth"] for one in cosines], axis=0),
        "removed": 100
        * float(diagnostics.share_removed(np.mean([one["mean"] for one in cosines]))),
        "gaps": {name: interval(values) for name, values in gaps.items()},
        "difference": interval(np.subtract(gaps["without"], gaps["with"])),
    }


def layers(setting: Setting, one: Variant, data_dir: str | None, *, every: int) -> dict[str, Any]:
    """Return the cosine of the two gradients in each parameter tensor, every so many steps."""
    bench = study.bench(setting, 0, data_dir)
    plan, config = bench.plan, unlearners.configure(unlearners.find("ltu"), json.loads(one.options))
    data = visible_data(plan.dataset, plan.split)
    spec, forgetting = spec_of(data, plan.dataset.num_classes), config.objective.build()
    method = ltu(plan.model, spec, config, forgetting=forgetting)
    tasks = ltu_tasks(plan.model, spec, config, forgetting)
    state = method.prepare(jax.random.key(0), bench.model("original").variables, data)

    @jax.jit
    def advance(key, t, state):
        sample_key, step_key = jax.random.split(key)
        batch = method.sample(sample_key, t, state, data)
        roles = split_tasks(step_key, forgetting.num_tasks, forgetting.num_support)
        cosines = by_tensor(tasks.losses(state, batch), state.variables.params, *roles, config)
        return method.step(step_key, state, batch)[0], cosines

    seen = []
    for t in range(config.steps):
        key = jax.random.fold_in(jax.random.key(1), t)
        state, cosines = advance(key, jnp.asarray(t), state)
        if t % every == 0:
            seen.append(jax.tree.map(float, cosines))
    return {
        name: {
            "share": 100 * float(np.mean([one[name] < 0 for one in seen])),
            "deciles": np.quantile([one[name] for one in seen], np.arange(0.1, 1, 0.1)).tolist(),
        }
        for name in seen[0]
    }


def by_tensor(
    losses: Losses, params: PyTree, support: jax.Array, query: jax.Array, config: LTUConfig
) -> dict[str, Any]:
    """Return the cosine of LTU's two gradients in each parameter tensor, by its path."""
    remember, _ = meta_gradient(
        losses.random_labels, losses.queries, params, config.random_label_inner
    )
    forget, _ = meta_gradient(
        lambda p: losses.membership(p)[support].mean(),
        lambda p: losses.membership(p)[query],
        params,
        config.membership_inner,
    )
    found = jax.tree.map(
        lambda r, f: jnp.vdot(r, f) / (optax.tree.norm(r) * optax.tree.norm(f) + 1e-12),
        remember,
        forget,
    )
    leaves, _ = jax.tree.flatten_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of the cosine by step and by tensor, and of gaps by conflicts."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(13, 3.6))
    found = results["settings"]
    for name, one in found.items():
        panels[0].plot(np.arange(10) * 10 + 5, one["by_tenth"], lw=1.2, label=name)
    panels[0].axhline(0, color="k", lw=0.6)
    panels[0].set(xlabel="of the run, %", ylabel="cosine of the two gradients")
    panels[0].legend(frameon=False, fontsize=6)
    names = list(results["layers"])
    for at, name in enumerate(names):
        deciles = results["layers"][name]["deciles"]
        panels[1].plot([deciles[0], deciles[-1]], [at, at], color="C0", lw=1.5)
        panels[1].plot(deciles[4], at, "o", color="C0", ms=4)
    panels[1].axvline(0, color="k", lw=0.6)
    panels[1].set_yticks(range(len(names)), names, fontsize=6)
    panels[1].set(xlabel="cosine in a tensor: median and middle 80 %")
    for name, one in found.items():
        middle, low, high = one["difference"]
        share = one["share"][0]
        panels[2].plot([share, share], [low, high], lw=1, color="C0")
        panels[2].plot(share, middle, "o", ms=4, color="C0")
        panels[2].annotate(name, (share, middle), fontsize=5)
    panels[2].axhline(0, color="k", lw=0.6)
    panels[2].set(xlabel="steps with a conflict, %", ylabel="gap without harmonisation - with")
    return figure


if __name__ == "__main__":
    main()
