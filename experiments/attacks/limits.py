"""How little leakage can an audit detect?

    python -m experiments.attacks.limits

Writes `experiments/results/limits.json`, two figures `docs/limits_*.png` and the tables of
`docs/statistical_power.md`, all by formula, in about ten seconds. Exact unlearning itself
reaches a balanced accuracy of .538 by chance with 500 examples a side; beyond 20 % forgotten of
50,000 the 10,000 test examples are what limits; 64 models a side certify an epsilon of 2.8 at most
and see .7; one run with 1,000 guesses sees .16 of a single example, but only 2.8 of a whole group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from scipy import stats

from experiments.lib.provenance import ROOT, command_source
from experiments.lib.results_table import origin, replace_block
from ltu_jax.audit import bounds, epsilon, one_run
from ltu_jax.files import write_json

ALPHA, POWER = 0.05, 0.8
TRAIN_SIZE, TEST_SIZE = 50_000, 10_000
SIZES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
MODELS = (8, 16, 32, 64, 128, 256, 512, 1024)
GUESSES = (10, 30, 100, 300, 1000, 3000, 10_000)


@dataclass(frozen=True)
class Options:
    """Compute the limits of audits.

    Attributes:
      out: folder that holds `experiments/results` and `docs`.
      quick: three points of each curve, to see that it works.
    """

    out: Path = ROOT
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Compute, draw and write."""
    options = tyro.cli(Options, args=args)
    step = 3 if options.quick else 1
    results = {
        "sources": [command_source("attacks.limits")],
        "alpha": ALPHA,
        "power": POWER,
        "train_size": TRAIN_SIZE,
        "test_size": TEST_SIZE,
        "floors": [{"n": n, **floors(n, n)} for n in SIZES[::step]],
        "ratios": [at_ratio(ratio) for ratio in RATIOS[::step]],
        "models": [of_models(n) for n in MODELS[::step]],
        "guesses": [of_guesses(r) for r in GUESSES[::step]],
    }
    write_json(options.out / "experiments/results/limits.json", results)
    docs = options.out / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    draw_floors(results, docs / "limits_floor.png")
    draw_epsilons(results, docs / "limits_epsilon.png")
    page = docs / "statistical_power.md"
    if page.exists():
        text = replace_block(page.read_text(encoding="utf-8"), "results", tables(results))
        page.write_text(text, encoding="utf-8")


def floors(n_in: int, n_out: int) -> dict[str, float]:
    """What two samples of one distribution reach by chance: 95 % points, as fractions.

    TPR at 1 % FPR: the threshold is the (k + 1)-th largest of the other side's scores with k = 1 %
    of them rounded down, and the share above it is beta-binomial.
    """
    allowed = math.floor(0.01 * n_out)
    above = stats.betabinom.ppf(1 - ALPHA, n_in, allowed + 1, n_out - allowed)
    return {
        "auc": bounds.auc_floor_band(n_in, n_out, alpha=ALPHA)[1] / 100,
        "ks": bounds.ks_floor(n_in, n_out, alpha=ALPHA) / 100,
        "balanced_accuracy": bounds.balanced_accuracy_floor(n_in, n_out, alpha=ALPHA),
        "tpr_at_1_fpr": float(above) / n_in,
    }


def at_ratio(ratio: float) -> dict[str, Any]:
    """Floors at one forget ratio, against the test set and against the retain set."""
    forget = round(ratio * TRAIN_SIZE)
    retain = TRAIN_SIZE - forget
    return {
        "ratio": ratio,
        "forget": forget,
        "test_side": floors(forget, TEST_SIZE),
        "retain_side": floors(forget, retain),
    }


def of_models(n: int) -> dict[str, Any]:
    """Epsilon that n models a side certify and see, all at one threshold or half choosing it."""
    half = n - n // 2
    values = {
        "certifiable": epsilon.certifiable_epsilon(n, n, alpha=ALPHA),
        "detectable": epsilon.detectable_epsilon(n, n, alpha=ALPHA, power=POWER),
        "certifiable_split": epsilon.certifiable_epsilon(half, half, alpha=ALPHA),
        "detectable_split": epsilon.detectable_epsilon(half, half, alpha=ALPHA, power=POWER),
    }
    return {"n": n, **_finite(values)}


def of_guesses(r: int) -> dict[str, Any]:
    """Epsilon that r guesses of one run certify and see, of one candidate and of the group."""
    single = one_run.one_run_bound(r, r, 0, alpha=ALPHA, power=POWER)
    group = one_run.group_bound(0, r, alpha=ALPHA, power=POWER)
    values = {
        "certifiable": single.certifiable,
        "detectable": single.detectable,
        "certifiable_group": group.certifiable,
        "detectable_group": group.detectable,
    }
    return {"r": r, **_finite(values)}


def tables(results: dict[str, Any]) -> str:
    """Return the tables of `docs/statistical_power.md` and where their numbers come from."""
    floor_heads = ("AUC", "KS", "balanced accuracy", "TPR at 1 % FPR")
    by_size = [(f"{row['n']:,}", *_floors(row)) for row in results["floors"]]
    by_ratio = [
        (
            f"{row['ratio']:.0%}",
            f"{row['forget']:,}",
            *_floors(row["test_side"]),
            f"{row['retain_side']['balanced_accuracy']:.3f}",
        )
        for row in results["ratios"]
    ]
    by_models = [(f"{row['n']:,}", *_epsilons(row, "_split")) for row in results["models"]]
    by_guesses = [(f"{row['r']:,}", *_epsilons(row, "_group")) for row in results["guesses"]]
    return "\n".join(
        [
            _table(("forget = test", *floor_heads), by_size),
            _table(("forgotten", "forget set", *floor_heads, "against retained"), by_ratio),
            _table(("models a side", "certifies", "sees", "split: certifies", "sees"), by_models),
            _table(("guesses", "certifies", "sees", "group: certifies", "sees"), by_guesses),
            origin(results["sources"]),
        ]
    )


def draw_floors(results: dict[str, Any], path: Path) -> None:
    """Draw the floors against the size of both sets, and against the forget ratio."""
    figure, (by_size, by_ratio) = _figure()
    names = {"ks": "KS", "tpr_at_1_fpr": "TPR at 1 % FPR"}
    excess = {"auc": "AUC - 1/2", "balanced_accuracy": "balanced accuracy - 1/2"}
    sizes = [row["n"] for row in results["floors"]]
    for name, label in (names | excess).items():
        less = 0.5 if name in excess else 0.0
        by_size.plot(sizes, [row[name] - less for row in results["floors"]], "o-", label=label)
    by_size.axhline(0.01, color="grey", linestyle=":", label="1 %: TPR of guessing")
    by_size.set(xscale="log", yscale="log", xlabel="forget = test examples")
    by_size.set_ylabel("reached by chance in 5 % of exact unlearnings")

    ratios = [100 * row["ratio"] for row in results["ratios"]]
    for side, label in (
        ("test_side", f"against {TEST_SIZE:,} test examples"),
        ("retain_side", f"against the retained of {TRAIN_SIZE:,}"),
    ):
        floor = [row[side]["balanced_accuracy"] for row in results["ratios"]]
        by_ratio.plot(ratios, floor, "o-", label=label)
    by_ratio.set(xlabel="percent forgotten", ylabel="balanced accuracy reached by chance")
    _save(figure, (by_size, by_ratio), path)


def draw_epsilons(results: dict[str, Any], path: Path) -> None:
    """Draw the certifiable and the detectable epsilon against the number of models or guesses."""
    figure, (by_models, by_guesses) = _figure()
    panels = (
        (by_models, "models", "n", "models a side", "split", "half choosing"),
        (by_guesses, "guesses", "r", "guesses of one run", "group", "whole group"),
    )
    for axes, rows, key, xlabel, suffix, meaning in panels:
        for name, line in (("certifiable", "-"), ("detectable", "--")):
            for column, colour, label in (
                (name, "#0072B2", name),
                (f"{name}_{suffix}", "#D55E00", f"{name}, {meaning}"),
            ):
                shown = [row for row in results[rows] if row[column]]
                points = [row[key] for row in shown], [row[column] for row in shown]
                axes.plot(*points, line, marker="o", color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="epsilon")
    by_models.set_yticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
    by_models.minorticks_off()
    _save(figure, (by_models, by_guesses), path)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if value < math.inf else None for name, value in values.items()}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["--:"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _floors(row: dict[str, float]) -> list[str]:
    return [f"{row[name]:.3f}" for name in ("auc", "ks", "balanced_accuracy", "tpr_at_1_fpr")]


def _epsilons(row: dict[str, float | None], suffix: str) -> list[str]:
    """Return the four epsilons of a row; a dash for what cannot be certified or seen at all."""
    names = ("certifiable", "detectable", f"certifiable{suffix}", f"detectable{suffix}")
    return [f"{row[name]:.2f}" if row[name] else "–" for name in names]


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, 2)


def _save(figure: Any, panels: Sequence[Any], path: Path) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
