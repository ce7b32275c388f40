"""The figures of a report as PNG pictures, each with a caption and an alternative text.

Colours are those of Okabe and Ito, which colour-blind readers distinguish; dashes differ too.
"""

from __future__ import annotations

import io
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ltu_jax.audit import ks_distance, roc_curve
from ltu_jax.report.content import ReportContent, find_row, measured, number, signed
from ltu_jax.report.content import label as display_name
from ltu_jax.report.drawing import drawable_names, drawn, is_drawable
from ltu_jax.report.verdict import loss_attack

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 6.0, 4.5, 200
WIDTH, HEIGHT = int(WIDTH_INCHES * DOTS_PER_INCH), int(HEIGHT_INCHES * DOTS_PER_INCH)
MOST_BARS = 20  # classes; with more, differences are sorted instead

BLACK, GREY, FAINT = "#1a1a1a", "#6b6b6b", "#d9d9d9"
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
REFERENCE_STYLES = {
    "original": (VERMILION, (0, (4, 1.5))),
    "retrain": (BLUE, "-"),
    "retrain_2": (SKY, (0, (1.5, 1))),
}
METHOD_STYLES = ((GREEN, "-"), (PURPLE, "-"), (ORANGE, "-"), (BLACK, "-"))


class Picture(NamedTuple):
    """One figure, `WIDTH` by `HEIGHT` pixels.

    Attributes:
      name: its file name without `.png`.
      png: the file.
      alt: text for readers who cannot see it.
      caption: explanation below the figure.
    """

    name: str
    png: bytes
    alt: str
    caption: str


def pictures(content: ReportContent) -> list[Picture]:
    """Return every figure for which `content` holds data."""
    found = [
        drawn(partial(draw, content), draw.__name__) for draw in (confidences, roc, steps, classes)
    ]
    return [picture for picture in found if picture is not None]


def label(model: str) -> str:
    """Return the display name of a model, if the figures can show it."""
    name = display_name(model)
    return name if is_drawable(name) else "the method"


def confidences(content: ReportContent) -> Picture | None:
    """Draw histograms of the confidence in the true class, forget against test, per model."""
    models = [m for m in ("original", "retrain", content.run["method"]) if m in content.signals]
    if not models:
        return None
    pairs = {model: _pair(content, model, "confidence") for model in models}
    known = {m: pair for m, pair in pairs.items() if pair[0].size and pair[1].size}
    distances = {m: number(ks_distance(*pair), 0) for m, pair in known.items()}
    listed = ", ".join(f"{_short(label(m))} {distance}" for m, distance in distances.items())
    figure = new_figure(f"KS distance, forget to test: {listed}")
    panels = figure.subplots(len(models), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, model in zip(panels, models, strict=True):
        _histogram(axes, *pairs[model])
        axes.set_title(label(model), loc="left", fontsize=10, weight="bold", parse_math=False)
    panels[0].legend(loc="upper left", frameon=False, fontsize=9)
    panels[len(models) // 2].set_ylabel("share of examples (%), root scale", fontsize=9)
    panels[-1].set_xlabel("confidence in the true class", fontsize=9)
    return Picture(
        "confidences",
        to_png(figure),
        "Histograms of the confidence in the true class, forget set against test set. "
        f"Kolmogorov-Smirnov distance in percentage points: {listed}.",
        "Confidence in the true class for the forget set (filled) and for test examples that no "
        "model was trained on (line). The retrained model's pattern is the target. KS distance: "
        "the largest difference between the two cumulative curves, in percentage points.",
    )


def _histogram(axes: Axes, forget: np.ndarray, test: np.ndarray) -> None:
    bins = np.linspace(0, 1, 26).tolist()
    samples: tuple[tuple[np.ndarray, str, dict[str, Any]], ...] = (
        (forget, "forget set", {"histtype": "stepfilled", "color": ORANGE}),
        (test, "test set", {"histtype": "step", "color": BLACK, "linewidth": 1.4}),
    )
    for values, name, look in samples:
        share = np.full(values.size, 100 / max(values.size, 1))
        axes.hist(values, bins, weights=share, label=name, **look)
    # A memorised set concentrates at 1; the root scale keeps the rest readable.
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_yticks([0, 10, 40, 90])
    axes.set(xlim=(0, 1), ylim=(0, 100))
    style_axes(axes)


def roc(content: ReportContent) -> Picture | None:
    """Draw ROC curves of the loss attack on every model, the retrained ones are the target."""
    curves = {}
    for model in (row["model"] for row in content.rows if row["model"] in content.signals):
        forget, test = _pair(content, model, "loss")
        if forget.size and test.size:
            # A low loss means member.
            curves[model] = roc_curve(-forget, -test, drop_intermediate=True)[:2]
    if not curves:
        return None
    figure = new_figure(_roc_title(content))
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8)
    styles, aucs = model_styles(content), {}
    for model, (fpr, tpr) in curves.items():
        color, dashes = styles[model]
        aucs[model] = number(find_row(content, model).get("auc"))
        name = f"{label(model)}\nAUC {aucs[model]}"
        axes.plot(100 * fpr, 100 * tpr, color=color, linestyle=dashes, linewidth=1.8, label=name)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set_xlabel("test examples called members (%)", fontsize=9)
    axes.set_ylabel("forget examples called members (%)", fontsize=9)
    style_axes(axes)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9, labelspacing=0.9
    )
    listed = ", ".join(f"{label(m)} {auc}" for m, auc in aucs.items())
    return Picture(
        "roc",
        to_png(figure),
        f"ROC curves of the loss attack, forget set against test set. AUC: {listed}.",
        "The attack calls an example a member of the training set if its loss is low; the diagonal "
        "is chance. The target is the retrained model's curve, not the diagonal.",
    )


def _roc_title(content: ReportContent) -> str:
    auc = find_row(content, content.run["method"]).get("auc")
    retrain = find_row(content, "retrain").get("auc")
    if not measured(auc):
        return "The loss attack on every model"
    title = f"Loss attack on {label(content.run['method'])}: AUC {number(auc)}"
    level = loss_attack(content).level
    if content.auc_band is not None and level in ("inside", "outside", "powerless"):
        low, high = content.auc_band
        where = "outside" if level == "outside" else "inside"
        also = ", as the original's" if level == "powerless" else ""
        return f"{title}, {where} {number(low)} to {number(high)}{also}"
    return f"{title}, Retrain {number(retrain)}" if measured(retrain) else title


def steps(content: ReportContent) -> Picture | None:
    """Draw the losses and the cosine of the two gradients over the method's steps."""
    history = {key: np.asarray(values, float) for key, values in content.history.items()}
    losses = {key: values for key, values in history.items() if key.startswith("loss")}
    cosine = history.get("cosine", np.empty(0))
    if not losses and not cosine.size:
        return None
    length = max(values.size for values in [*losses.values(), cosine])
    step = history.get("step", np.arange(1, length + 1))
    figure = new_figure(_steps_title(history))
    count = bool(losses) + bool(cosine.size)
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    panels[-1].set_xlim(step[0], step[-1] + (length == 1))
    panels[-1].set_xlabel("step", fontsize=9)
    if cosine.size:
        _cosine(panels[-1], step, cosine)
    if losses:
        _losses(panels[0], step, losses)
    return Picture(
        "steps",
        to_png(figure),
        f"Curves over {length} steps. {_steps_title(history)}.",
        ("The losses of the method. " if losses else "")
        + (
            "The cosine between the gradients of remembering and of forgetting: below zero they "
            "conflict. "
            if cosine.size
            else ""
        )
        + "Faint: every step. Bold: running mean.",
    )


def _steps_title(history: dict[str, np.ndarray]) -> str:
    if "conflict" in history and history["conflict"].size:
        share = number(100 * np.nanmean(history["conflict"]), 0)
        return f"Remembering and forgetting conflict in {share} % of steps"
    return "Losses over the steps of the method"


def _losses(axes: Axes, step: np.ndarray, losses: dict[str, np.ndarray]) -> None:
    for (key, values), color in zip(losses.items(), cycle((BLUE, VERMILION, PURPLE, BLACK))):
        name = key.removeprefix("loss").replace("_", " ").strip() or "loss"
        axes.plot(step, values, color=color, alpha=0.3, linewidth=0.8)
        axes.plot(step, _smooth(values), color=color, linewidth=1.8, label=name)
    known = [values[np.isfinite(values)] for values in losses.values()]
    if all(values.size and values.min() > 0 for values in known):
        levels = [np.median(values) for values in known]
        if max(levels) > 20 * min(levels):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("loss", fontsize=9)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=len(losses), frameon=False, fontsize=9
    )
    style_axes(axes)


def _cosine(axes: Axes, step: np.ndarray, cosine: np.ndarray) -> None:
    axes.axhspan(-1, 0, color=FAINT, alpha=0.5, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(step, cosine, color=GREEN, alpha=0.3, linewidth=0.8)
    axes.plot(step, _smooth(cosine), color=GREEN, linewidth=1.8)
    axes.text(0.01, 0.04, "conflict", transform=axes.transAxes, fontsize=9, color=GREY)
    axes.set_ylim(-1, 1)
    axes.set_ylabel("cosine of gradients", fontsize=9)
    style_axes(axes)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a twentieth of the steps, with shorter windows at the ends."""
    window = np.ones(max(1, values.size // 20))
    weight = np.convolve(np.ones(values.size), window, "same")
    return np.convolve(values, window, "same") / weight


def classes(content: ReportContent) -> Picture | None:
    """Draw the test accuracy of each class: bars for few classes, sorted differences for many."""
    method = content.run["method"]
    if method not in content.class_accuracy:
        return None
    names, numbered = drawable_names(content.class_names)
    content = content._replace(class_names=names)
    base = "retrain" if "retrain" in content.class_accuracy else "original"
    if base not in content.class_accuracy:
        return None
    accuracy = {model: np.asarray(a, float) for model, a in content.class_accuracy.items()}
    change = accuracy[method] - accuracy[base]
    title = f"Test accuracy of each class, {label(method)} against {label(base)}"
    if np.isfinite(change).any():
        worst = int(np.nanargmax(np.abs(change)))
        name = _short(content.class_names[worst])
        title = f"Furthest from {label(base)}: {name}, {signed(change[worst])} percentage points"
    figure = new_figure(title)
    axes = figure.subplots()
    if len(content.class_names) <= MOST_BARS:
        _bars(
            axes, content, accuracy, [m for m in ("original", "retrain", method) if m in accuracy]
        )
        caption = "Share of the test examples of each class that a model classifies correctly."
    else:
        _differences(axes, content, accuracy, base)
        caption = (
            f"Test accuracy of each class minus {label(base)}'s, sorted. Grey: the same for the "
            "second Retrain, the noise floor."
            if base == "retrain" and "retrain_2" in accuracy
            else f"Test accuracy of each class minus {label(base)}'s, sorted."
        )
    alt = f"Test accuracy by class. {title}."
    return Picture("classes", to_png(figure), alt, caption + numbered)


def _bars(
    axes: Axes, content: ReportContent, accuracy: dict[str, np.ndarray], models: list[str]
) -> None:
    styles, width = model_styles(content), 0.84 / len(models)
    places = np.arange(len(content.class_names))
    for i, model in enumerate(models):
        at = places + (i - (len(models) - 1) / 2) * width
        heights = np.nan_to_num(accuracy[model])
        axes.bar(at, heights, 0.9 * width, color=styles[model][0], label=label(model))
    names = [_short(name) for name in content.class_names]
    turn = 0 if max(map(len, names)) * len(names) <= 50 else 50
    look = {"rotation": turn, "ha": "right", "rotation_mode": "anchor"} if turn else {}
    axes.set_xticks(places, names, parse_math=False, **look)
    axes.set_ylim(0, 100)
    axes.set_ylabel("test accuracy (%)", fontsize=9)
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    style_axes(axes)


def _differences(
    axes: Axes, content: ReportContent, accuracy: dict[str, np.ndarray], base: str
) -> None:
    method = content.run["method"]
    change = accuracy[method] - accuracy[base]
    known = np.flatnonzero(np.isfinite(change))
    order = known[np.argsort(change[known], kind="stable")]
    if base == "retrain" and "retrain_2" in accuracy:
        floor = np.sort(accuracy["retrain_2"] - accuracy["retrain"])
        floor = floor[np.isfinite(floor)]
        axes.plot(
            np.arange(1, floor.size + 1), floor, color=GREY, linewidth=1.2, label=label("retrain_2")
        )
    ranks = np.arange(1, order.size + 1)
    color = model_styles(content)[method][0]
    axes.plot(ranks, change[order], "o", color=color, markersize=4, label=label(method))
    axes.axhline(0, color=GREY, linewidth=0.8)
    ends = [(0, "left", 6), (1, "left", 6), (-1, "right", -6), (-2, "right", -6)]
    for at, side, offset in ends[: order.size]:
        axes.annotate(
            _short(content.class_names[int(order[at])]),
            (ranks[at], change[order[at]]),
            (offset, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
            parse_math=False,
        )
    axes.set_xlabel("classes, sorted by difference", fontsize=9)
    axes.set_ylabel(f"test accuracy minus {label(base)}'s (percentage points)", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    style_axes(axes)


def model_styles(content: ReportContent) -> dict[str, tuple]:
    """Return a colour and a dash per model: fixed for references, in row order for methods."""
    methods = [row["model"] for row in content.rows if row["model"] not in REFERENCE_STYLES]
    looks = {name: METHOD_STYLES[i % len(METHOD_STYLES)] for i, name in enumerate(methods)}
    return {**REFERENCE_STYLES, **looks}


def _pair(content: ReportContent, model: str, signal: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the finite forget and test values of a signal."""
    values = (np.asarray(content.signals[model][f"{s}_{signal}"]) for s in ("forget", "test"))
    forget, test = (v[np.isfinite(v)] for v in values)
    return forget, test


def new_figure(title: str) -> Figure:
    """Return an empty figure of the common size, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((WIDTH_INCHES, HEIGHT_INCHES), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, weight="bold", parse_math=False)
    return figure


def style_axes(axes: Axes) -> None:
    """Apply the common style to axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=9, color=GREY)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes that depend only on its content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
