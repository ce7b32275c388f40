"""Result files as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltu_jax.report.content import label, number

MINUS = "\N{MINUS SIGN}"


def verdicts(results: Mapping[str, Any]) -> str:
    """Return a row for each claim and setting: rival, difference and verdict."""
    rows = []
    for name, claim in results["claims"].items():
        rows.append([f"**{name}** {claim['statement']}", "", "", "", f"**{claim['verdict']}**"])
        for setting, cell in claim["settings"].items():
            interval = span([cell["difference"], *cell["interval"]])
            margin = f"{cell['margin']:.1f}"
            rows.append([setting, f"`{cell['rival']}`", interval, margin, cell["verdict"]])
    header = ["claim, setting", "against", "its gap less LTU's (95 %)", "floor", "verdict"]
    return table(header, rows)


def rivals(results: Mapping[str, Any]) -> str:
    """Return by scenario the lead of each of our methods over the best other method."""
    rows = [
        [setting, f"`{ours}`", f"`{cell['rival']}`", span([cell["difference"], *cell["interval"]])]
        for ours, cells in results["rivals"].items()
        for setting, cell in cells.items()
    ]
    return table(["scenario", "method", "best of the others", "its gap less ours (95 %)"], rows)


def variants(results: Mapping[str, Any]) -> str:
    """Return a table for each setting with a row for every variant of LTU."""
    parts = []
    for setting, cell in results["settings"].items():
        rows = [
            [name, span(one["gap"]), *(mean(one, measure) for measure in MEASURES), seeds(one)]
            for name, one in sorted(cell.items(), key=lambda item: item[1]["gap"][0])
        ]
        header = ["variant", "Avg. gap (95 %)", *MEASURES.values(), "seeds"]
        parts.append(f"**{setting}**\n\n{table(header, rows)}")
    return "\n".join(parts)


def goal(results: Mapping[str, Any]) -> str:
    """Return how far LTU is from 1.5 floors and from attacks within Retrain's intervals."""
    attacks = {name: MEASURES[name] for name in ("auc", "supervised", "two_model")}
    rows = []
    for setting, cell in results["settings"].items():
        for name in ("LTU", "calibrated", "joint"):
            if name not in cell:
                continue
            gap, floor = cell[name]["gap"][0], cell["retrain_2"]["gap"][0]
            row = [f"{setting}, {name}", seeds(cell[name]), f"{gap:.1f}", f"{1.5 * floor:.1f}"]
            for attack in attacks:
                found = [cell[one][attack] for one in ("retrain", "retrain_2")]
                low = max(min(one[1] for one in found), 0.0)
                high = min(max(one[2] for one in found), 100.0)
                value = cell[name][attack][0]
                off = f"{max(low - value, value - high, 0.0):.1f}"
                reached = "reached" if off == "0.0" else f"off by {off}"
                row.append(f"{value:.1f} ({low:.1f} to {high:.1f}): {reached}")
            rows.append(row)
    header = ["setting, method", "seeds", "Avg. gap", "at most", *attacks.values()]
    return table(header, rows)


MEASURES = {
    "ua": "UA",
    "ra_inaccessible": "RA unseen",
    "ta": "TA",
    "mia": "MIA",
    "auc": "loss AUC",
    "supervised": "supervised AUC",
    "two_model": "two-model AUC",
    "seconds": "seconds",
}


def rho(results: Mapping[str, Any]) -> str:
    """Return the average gap by method and rho."""
    shares = sorted({s for one in results["methods"].values() for s in one}, key=float)
    rows = [
        [name, *(span(one[share]["gap"]) if share in one else "" for share in shares)]
        for name, one in results["methods"].items()
        if name != "retrain"
    ]
    return table(["Avg. gap at rho =", *shares], rows)


def movement(results: Mapping[str, Any]) -> str:
    """Return metrics and attacks by share of the retain set and by noise."""
    rows = []
    for share, cells in results["shares"].items():
        for name, one in cells.items():
            method = [name, ""] if name in NETWORKS else ["`ltu_joint`", name]
            measures = (mean(one, measure) for measure in _MOVEMENT)
            rows.append([share, *method, span(one["gap"]), *measures])
    header = ["rho", "method", "weight noise", "Avg. gap (95 %)", "UA", "RA", "TA", "MIA"]
    return table([*header, "loss AUC", "supervised AUC", "two-model AUC"], rows)


NETWORKS = ("retrain", "retrain_2")
_MOVEMENT = ("ua", "ra", "ta", "mia", "auc", "supervised", "two_model")


def budget(results: Mapping[str, Any]) -> str:
    """Return work and metrics by method and steps."""
    rows = [
        [
            f"`{one['method']}`",
            str(one["steps"]),
            f"{one['learning_rate']:g}",
            f"{100 * one['work']:.0f} %",
            span(one["gap"]),
            *(mean(one, measure) for measure in _BUDGET),
        ]
        for one in results["rows"]
    ]
    rows += [
        [f"`{name}`", "", "", "", span(one["gap"]), *(mean(one, m) for m in _BUDGET)]
        for name, one in results["references"].items()
    ]
    header = ["method", "steps", "learning rate", "work over Retrain's", "Avg. gap"]
    return table([*header, "UA", "RA", "TA", "loss AUC"], rows)


_BUDGET = ("ua", "ra", "ta", "auc")


def second_order(results: Mapping[str, Any]) -> str:
    """Return cost and metrics of each variant in each form."""
    times = results["times"]
    rows = [
        [
            f"`{one['method']}`",
            one["form"],
            f"{one['images']:,}",
            _times(times[one["method"]].get(one["form"])),
            span(one["gap"]),
            *(mean(one, measure) for measure in _BUDGET),
        ]
        for one in results["rows"]
    ]
    rows += [
        [
            f"`{name}`",
            "",
            "",
            _times(times["ltu"].get(name)),
            span(one["gap"]),
            *(mean(one, measure) for measure in _BUDGET),
        ]
        for name, one in results["references"].items()
    ]
    header = ["method", "form", "forward passes a step", "time / exact", "Avg. gap"]
    return table([*header, "UA", "RA", "TA", "loss AUC"], rows)


def _times(found: Sequence[float] | None) -> str:
    """Return the median of a ratio and its extremes, or nothing."""
    return "" if found is None else f"{found[1]:.2f} ({found[0]:.2f} to {found[2]:.2f})"


def stopping(results: Mapping[str, Any]) -> str:
    """Return by setting the gap after every number of steps, and after those of each rule."""
    first = next(iter(results["settings"].values()))
    rows = [
        [name, *(span(one["gap"]) for part in ("steps", "rules") for one in cell[part].values())]
        for name, cell in results["settings"].items()
    ]
    names = {"score": "smallest score", "default": "default", "oracle": "oracle"}
    header = [f"{steps} steps" for steps in first["steps"]] + [names[one] for one in first["rules"]]
    return table(["Avg. gap after", *header], rows)


def overlaps(results: Mapping[str, Any]) -> str:
    """Return by forget set its overlap score, and gap and loss AUC of each method."""
    found = results["sets"]
    methods = [name for name in next(iter(found.values()))["methods"] if name != "retrain"]
    rows = []
    for one in sorted(found.values(), key=lambda one: one["overlap"][0]):
        conflicts = [c["share"] for c in one["methods"].get("LTU", {}).get("conflicts", []) if c]
        rows.append(
            [
                one["title"],
                f"{one['overlap'][0]:.2f}",
                f"{one['methods']['retrain']['auc'][0]:.0f}",
                *(
                    f"{one['methods'][name]['gap'][0]:.1f} ({one['methods'][name]['auc'][0]:.0f})"
                    for name in methods
                ),
                f"{sum(conflicts) / len(conflicts):.0f}" if conflicts else "",
            ]
        )
    return table(["forget set", "overlap", "Retrain's AUC", *methods, "conflicts, %"], rows)


def conflicts(results: Mapping[str, Any]) -> str:
    """Return by setting how often the gradients conflict and the effect of harmonisation."""
    rows = [
        [
            name,
            span(one["share"]),
            f"{one['mean'][0]:+.2f}".replace("-", MINUS),
            f"{one['removed']:.0f}",
            span(one["gaps"]["with"]),
            span(one["difference"]),
        ]
        for name, one in results["settings"].items()
    ]
    header = ["setting", "steps with a conflict, %", "mean cosine", "of each gradient removed, %"]
    return table([*header, "gap with", "gap without less with"], rows)


def failures(results: Mapping[str, Any]) -> str:
    """Return diagnostics and warnings by provoked failure."""
    rows = [
        [
            name,
            span(one["effective_models"]),
            span(one["removed"]),
            span(one["gap"]),
            f"{one['seconds'][0]:.1f}",
            f"{one['warned']} of {one['seeds']}",
        ]
        for name, one in results["cases"].items()
    ]
    header = ["case", "effective membership models", "of each gradient removed, %", "Avg. gap"]
    return table([*header, "seconds", "runs warned of"], rows)


def scheme(results: Mapping[str, Any]) -> str:
    """Return the weight on the shared feature by way of training."""
    rows = [
        [
            "another task" if way["gap"] else "the same task",
            str(way["order"]),
            f"{way['inner_lr']:g}",
            span(way["shared"], digits=2),
            span(way["reversed"]),
        ]
        for way in results["ways"]
        if way["inner_lr"] in (0.0, 1.0, 3.0)
    ]
    header = ["support from", "order", "inner_lr", "weight on what is shared"]
    return table([*header, "accuracy with the nuisance reversed, %"], rows)


def backdoors(results: Mapping[str, Any]) -> str:
    """Return a table for every setting, methods by the distance of their ASR from Retrain's."""
    return "\n".join(_backdoor(part) for part in results.values())


def _backdoor(part: Mapping[str, Any]) -> str:
    config, of_model = part["config"], {}
    for row in part["rows"]:
        of_model.setdefault(row["method"], []).append(row)

    def values(name: str, metric: str) -> list[float]:
        return [row[metric] for row in of_model[name] if row["failure"] is None]

    def column(name: str, metric: str) -> str:
        found = values(name, metric)
        if not found:
            return "failed"
        spread = f" ({number(min(found))} to {number(max(found))})" if len(found) > 1 else ""
        return f"{number(np.mean(found))}{spread}"

    def distance(name: str) -> float:
        found = values(name, "attack_success")
        target = np.mean(values("retrain", "attack_success"))
        return abs(np.mean(found) - target) if found else np.inf

    references = ("original", *NETWORKS)
    others = [name for name in of_model if name not in references]
    rows = [
        [
            label(name) if name in references else f"`{name}`",
            *(column(name, metric) for metric in _BACKDOOR),
            number(np.mean(found) if (found := values(name, "seconds")) else None),
        ]
        for name in (*references, *sorted(others, key=distance))
    ]
    title = (
        f"**{config['data']}, {config['model']}: {100 * config['share']:.0f} % of the training "
        f"images poisoned, {len({row['seed'] for row in part['rows']})} seeds**"
    )
    return f"{title}\n\n{table(['model', *_BACKDOOR.values(), 'seconds'], rows)}"


_BACKDOOR = {"attack_success": "ASR", "ta": "TA", "ua": "UA", "ra": "RA", "avg_gap": "Avg. gap"}


def span(interval: Sequence[float | None], digits: int = 1) -> str:
    """Return `mean (low to high)`; only the mean where there is no interval."""
    middle, low, high = interval
    shown = f"{middle:.{digits}f}"
    if low is not None and abs(low) != float("inf"):
        shown += f" ({low:.{digits}f} to {high:.{digits}f})"
    return shown.replace("-", MINUS)


def mean(one: Mapping[str, Any], measure: str) -> str:
    """Return a measure's mean, or nothing where it was not measured."""
    value = one[measure][0] if measure in one else None
    return "" if value is None else f"{value:.1f}"


def seeds(one: Mapping[str, Any]) -> str:
    """Return how many seeds there are."""
    return str(len(one["gaps"]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
