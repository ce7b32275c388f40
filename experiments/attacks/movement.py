"""Does weight noise protect against an attacker who holds both models?

    python -m experiments.attacks.movement --data-dir DIR
    python -m experiments.attacks.movement --quick

The two-model attack looks for examples whose margin fell most from the original to the unlearned
model. Retraining changes the outputs on held-out examples as well, so that the forget set hides
among them; unlearning leaves those outputs unchanged. Here noise is added to the original's weights
before `ltu_joint` starts, with 30 % of the retain set and with all of it, on a random 10 % of
CIFAR-10 (5,000 images, `mlp`). Writes `experiments/results/movement.json` and `docs/movement.png`;
ten minutes on two cores with LTU_STUDY_WORKERS=2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.lib import study, tables
from experiments.lib.settings import PRIMARY, QUICK
from ltu_jax.runs.comparison.jobs import Job, variant

NOISES = (0.0, 0.2, 0.4)
SHARES = (0.3, 1.0)
SEEDS = (0, 1, 2)
REFERENCES = ("retrain", "retrain_2")


def main(args: Sequence[str] | None = None) -> None:
    """Make, collect and draw the results."""
    study.main("movement", compute, draw=draw, render=tables.movement, args=args)


def compute(options: study.Options) -> dict[str, Any]:
    """Return the metrics by share of the retain set and by noise."""
    if options.quick:
        setting, shares, noises, seeds, steps = QUICK, (0.3,), (0.0, 0.4), (0,), {"steps": 20}
    else:
        setting, shares, noises, seeds, steps = PRIMARY, SHARES, NOISES, SEEDS, {}
    noisy = [variant("ltu_joint", weight_noise=noise, **steps) for noise in noises]
    results = study.results_of(
        [
            Job(setting._replace(retain_fraction=share), one, seed)
            for share in shares
            for one in (*map(variant, REFERENCES), *noisy)
            for seed in seeds
        ],
        options,
    )
    by_share: dict[str, dict[str, Any]] = {}
    for job in results:
        noise = job.options.get("weight_noise")
        name = job.variant.method if noise is None else f"{noise:g}"
        of_share = by_share.setdefault(f"{job.setting.retain_fraction:g}", {})
        of_share[name] = study.summary(results, study.same(results, job))
    return {
        "source": study.source("attacks.movement --data-dir DIR", results.values()),
        "config": {"seeds": list(SEEDS), "shares": list(SHARES), "noises": list(NOISES)},
        "shares": by_share,
    }


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of retain accuracy against the attack, a line for each share."""
    import matplotlib.pyplot as plt

    found = results["shares"]
    figure, panel = plt.subplots(figsize=(5, 3.4))
    for share, of_share in found.items():
        noises = [name for name in of_share if name not in REFERENCES]
        points = [(of_share[name]["two_model"][0], of_share[name]["ra"][0]) for name in noises]
        panel.plot(*zip(*points, strict=True), "o-", ms=3, lw=1.2, label=f"rho = {share}")
        for name, point in zip(noises, points, strict=True):
            panel.annotate(name, point, textcoords="offset points", xytext=(3, 3), fontsize=7)
    retrain = next(iter(found.values()))["retrain"]
    panel.plot(retrain["two_model"][0], retrain["ra"][0], "k*", label="Retrain")
    panel.axvspan(*retrain["two_model"][1:], color="k", alpha=0.1, lw=0)
    panel.set(xlabel="AUC of the two-model attack, %", ylabel="accuracy on the retain set, %")
    panel.legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
