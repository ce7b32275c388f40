"""The figures of an audit: attacks on single examples, and distances of margins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ltu_jax.report import figures
from ltu_jax.report.audit.sentences import ATTACKS, PARTS
from ltu_jax.report.audit.tables import WHEN
from ltu_jax.report.content import ReportContent, label, measured, number
from ltu_jax.report.drawing import drawn
from ltu_jax.report.figures import FAINT, GREEN, GREY, SKY, VERMILION, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADOW = {  # colour, marker and height above the middle of a row
    "shadow": (VERMILION, "s", 0.22),
    "shadow_unlearned": (GREEN, "o", 0.0),
    "shadow_retrain": (SKY, "D", -0.22),
}
ENSEMBLES = {"original": (VERMILION, 0.17), "unlearned": (GREEN, -0.17)}
MARKS = {"mean": "o", "worst_5": "^", "worst_1": "x"}


def pictures(content: ReportContent) -> list[Picture]:
    """Return every figure for which the audit holds data."""
    audit, method = content.audit or {}, label(content.run["method"])
    found = (
        drawn(partial(membership, audit.get("per_example", {}), method), "audit_examples"),
        drawn(partial(klom, audit.get("distinguishing", {}), method), "audit_klom"),
    )
    return [picture for picture in found if picture is not None]


def membership(found: Mapping[str, Mapping[str, Any]], method: str) -> Picture | None:
    """Draw the AUC of each attack on single examples: before, after, never trained on."""
    attacks = [name for name in ATTACKS if any(name in ensemble for ensemble in found.values())]
    if not attacks:
        return None
    figure = figures.new_figure("AUC of attacks on single examples")
    axes = figure.subplots()
    axes.axvline(50, color=GREY, linewidth=0.8)
    for ensemble in found:
        _intervals(axes, [found[ensemble].get(name, {}) for name in attacks], ensemble)
    axes.set_yticks(range(len(attacks)), [ATTACKS[name] for name in attacks])
    axes.set_ylim(len(attacks) - 0.5, -0.5)
    axes.set_xlabel("AUC (%), with its interval; 50 is chance", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figures.style_axes(axes)
    listed = "; ".join(
        f"{ATTACKS[name]} "
        + ", ".join(
            f"{WHEN[ensemble]} {number(found[ensemble].get(name, {}).get('auc'))}"
            for ensemble in found
        )
        for name in attacks
    )
    return Picture(
        "audit_examples",
        figures.to_png(figure),
        f"AUC of attacks on single examples, {method}. {listed}.",
        "How well attacks distinguish single examples that were trained on from examples that "
        "never were. Before unlearning: the attack's power. After: the method. Never trained on: "
        "the floor. An interval that holds 50 is no evidence.",
    )


def _intervals(axes: Axes, attacks: list[Mapping[str, Any]], ensemble: str) -> None:
    color, marker, above = SHADOW[ensemble]
    known = [i for i, found in enumerate(attacks) if measured(found.get("auc"))]
    auc = [attacks[i]["auc"] for i in known]
    ends = [attacks[i].get("auc_interval") or (None, None) for i in known]
    spread = np.array(
        [
            [max(0.0, way * (end[side] - middle)) if measured(end[side]) else 0.0]
            for side, way in ((0, -1), (1, 1))
            for end, middle in zip(ends, auc, strict=True)
        ]
    ).reshape(2, len(known))
    rows = np.array(known) - above
    look = {"fmt": marker, "color": color, "capsize": 3, "markersize": 6, "linewidth": 1.6}
    axes.errorbar(auc, rows, xerr=spread, label=WHEN[ensemble], **look)


def klom(distinguishing: Mapping[str, Mapping[str, Any]], method: str) -> Picture | None:
    """Draw KLoM to retrained models by part of the data, before and after, and its floor.

    Each line goes from the mean over the worst 5 % to the worst 1 % of the examples.
    """
    rows = [
        (part, kind, distinguishing[kind][part]["margin"]["klom"])
        for part in PARTS
        for kind in ENSEMBLES
        if part in distinguishing.get(kind, {})
    ]
    if not any(measured(values.get("mean")) for _, _, values in rows):
        return None
    figure = figures.new_figure("KLoM: distance of each example's margin to retrained models")
    axes = figure.subplots()
    most = max(v for _, _, values in rows for v in values.values() if measured(v))
    # The root scale keeps differences near the floor readable.
    axes.set_xlim(0, max(1.05 * most, 0.1))
    axes.set_xscale("function", functions=(_root, np.square))
    for part, kind, values in rows:
        _distances(axes, list(PARTS).index(part) - ENSEMBLES[kind][1], kind, values)
    axes.set_yticks(range(len(PARTS)), list(PARTS.values()))
    axes.set_ylim(len(PARTS) - 0.5, -0.5)
    axes.set_xlabel("KLoM (nats), root scale", fontsize=9)
    figure.legend(*_unique(axes), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figures.style_axes(axes)
    listed = ", ".join(
        f"{PARTS[part]} {WHEN[kind]} {number(values.get('mean'), 2)} "
        f"(floor {number(values.get('floor'), 2)})"
        for part, kind, values in rows
    )
    return Picture(
        "audit_klom",
        figures.to_png(figure),
        f"Mean KLoM in nats, {method}: {listed}.",
        "Distance of each example's margin distribution from that in retrained models: the mean "
        "(circle), the worst 5 % (triangle) and the worst 1 % of the examples (cross). The bar is "
        "the floor of the mean under exact unlearning: from its average to its 95 % point.",
    )


def _distances(axes: Axes, row: float, kind: str, values: Mapping[str, Any]) -> None:
    low, high = values.get("floor"), values.get("floor_95")
    if measured(low) and measured(high):
        name = "floor of the mean"
        axes.barh(row, max(high - low, 0.0), 0.26, low, color=FAINT, edgecolor=GREY, label=name)
    known = {name: values[name] for name in MARKS if measured(values.get(name))}
    color = ENSEMBLES[kind][0]
    axes.plot(list(known.values()), [row] * len(known), color=color, linewidth=1.2)
    for name, value in known.items():
        mark = {"marker": MARKS[name], "linestyle": "none", "markersize": 6}
        axes.plot(value, row, color=color, label=WHEN[kind] if name == "mean" else "", **mark)


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0))


def _unique(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return the legend's handles and labels, each label once."""
    by_name = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    return list(by_name.values()), list(by_name)
