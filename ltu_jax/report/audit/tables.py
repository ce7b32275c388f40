"""What an audit found, as tables: once as text, then as the terminal shows it.

`audit` is what `auditing.audit_run` returns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ltu_jax.audit.population import COLUMNS
from ltu_jax.report.audit.sentences import ATTACKS, DISTINGUISHING, PARTS, chance, nats
from ltu_jax.report.content import DASH, label, number, signed

if TYPE_CHECKING:
    from rich.table import Table

Cell = tuple[str, str]  # a value and the small text below it

WIDE = 8  # columns that fit the terminal
SHORT = {**ATTACKS, "u_lira_noisy": "U-LiRA, noisy"}
WHEN = {
    "shadow": "before unlearning",
    "shadow_unlearned": "after unlearning",
    "shadow_retrain": "never trained on",
    "original": "original",
    "unlearned": "unlearned",
    "retrain": "retrained",
}


class Grid(NamedTuple):
    """A table as text.

    Attributes:
      title: of the table.
      note: how to read it.
      head: a cell for each column, that of the row names first.
      rows: cells, the name of the row first.
    """

    title: str
    note: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


def grids(audit: Mapping[str, Any]) -> list[Grid]:
    """Return the tables for which the audit holds numbers."""
    found = (
        examples(audit["per_example"]),
        models(audit["distinguishing"]),
        bounds(audit["per_example"], audit["distinguishing"]),
        _measured(population(audit["population"])),
        _measured(distances(audit.get("distances", ()))),
    )
    return [grid for grid in found if grid.rows and len(grid.head) > 1]


def _measured(grid: Grid) -> Grid:
    """Return a table without the columns that nothing was measured for."""
    columns = range(1, len(grid.head))
    kept = [0, *(i for i in columns if any(row[i][0] != DASH for row in grid.rows))]
    rows = [[row[i] for i in kept] for row in grid.rows]
    return grid._replace(head=[grid.head[i] for i in kept], rows=rows)


def examples(per_example: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Return the results of attacks on single examples, in percent, by attack and ensemble."""
    return Grid(
        "Attacks on single examples",
        "In percent: was this example trained on, or never seen? 50 is chance. Before unlearning "
        "shows the attack's power, after it the method, never trained on the floor. Below the AUC "
        "its interval, below a TPR, at that FPR, the number of negatives. Worst: mean AUC of the "
        "examples most at risk. Noisy: on noisy copies. Right: correct predictions on the more "
        "confident half of the pairs. SWAP: change when the halves of the pairs swap roles.",
        (
            ("Attack", ""),
            ("AUC", "interval"),
            ("p", ""),
            ("TPR at", "1 %"),
            ("TPR at", "0.1 %"),
            ("worst", "5 %"),
            ("worst", "1 %"),
            ("right", "SWAP"),
        ),
        [
            [(SHORT.get(name, name), WHEN[ensemble]), *_example_cells(found[name])]
            for name in {name: None for found in per_example.values() for name in found}
            for ensemble, found in per_example.items()
            if name in found
        ],
    )


def _example_cells(found: Mapping[str, Any]) -> list[Cell]:
    low, high = found.get("auc_interval") or (None, None)
    return [
        (number(found.get("auc")), f"{number(low)}\N{EN DASH}{number(high)}"),
        (chance(found.get("p_value")).removeprefix("p ").removeprefix("= "), ""),
        (number(found.get("tpr_1")), ""),
        (number(found.get("tpr_01")), number(found.get("negatives"), 0)),
        *((number(found.get(key)), "") for key in ("worst_5", "worst_1")),
        (number(found.get("guess_accuracy")), number(found.get("swap"))),
    ]


def models(distinguishing: Mapping[str, Any]) -> Grid:
    """Return how models differ from retrained ones, by part of the data."""
    return Grid(
        "Distinguishing attack on models",
        "AUC, in percent, of an attack that distinguishes models from retrained ones by their "
        "margins, also on noisy copies. Shift: of the mean margin, in standard deviations of "
        "retrained models; negative is over-unlearning or damage. KLoM in nats: distance of the "
        "margins' distributions, by example; its floor is the value of exact unlearning with as "
        "many models, on average and in 95 % of cases. Rows of retrained models, one half against "
        "the other, are the floor of AUC and shift.",
        (
            ("Data", ""),
            ("AUC", "p"),
            ("noisy", "p"),
            ("shift", "p"),
            ("KLoM", "p"),
            ("worst", "5 %"),
            ("worst", "1 %"),
            ("floor", "95 %"),
        ),
        [
            [(PARTS[part], WHEN[kind]), *_model_cells(distinguishing[kind][part])]
            for part in PARTS
            for kind in distinguishing
            if part in distinguishing[kind]
        ],
    )


def _model_cells(found: Mapping[str, Any]) -> list[Cell]:
    margin, noisy = found["margin"], found.get("noisy", {})
    klom = margin["klom"]
    return [
        *((number(x.get("auc")), chance(x.get("p_value"))) for x in (margin, noisy)),
        (signed(margin.get("shift")), chance(margin.get("shift_p"))),
        (number(klom.get("mean"), 2), chance(klom.get("p_value"))),
        *((number(klom.get(key), 2), "") for key in ("worst_5", "worst_1")),
        (number(klom.get("floor"), 2), number(klom.get("floor_95"), 2)),
    ]


def bounds(per_example: Mapping[str, Any], distinguishing: Mapping[str, Any]) -> Grid:
    """Return lower bounds on epsilon after unlearning, with their power, in nats."""
    return Grid(
        "Lower bounds on the leak",
        "Epsilon in nats. 0 is no evidence of a leak; a leak below the smallest detectable epsilon "
        "often leaves no evidence.",
        (
            ("Evidence", ""),
            ("lower", "bound"),
            ("largest", "certifiable"),
            ("smallest", "detectable"),
        ),
        [
            [(name, ""), *((nats(bound.get(key)), "") for key in _KEYS)]
            for name, bound in _bounds(per_example, distinguishing)
        ],
    )


_KEYS = ("epsilon", "certifiable", "detectable")


def _bounds(
    per_example: Mapping[str, Mapping[str, Any]],
    distinguishing: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Iterator[tuple[str, Any]]:
    for attack, found in per_example.get("shadow_unlearned", {}).items():
        for key, what in (
            ("one_run", "one model"),
            ("bound", "all models"),
            ("group", "the forget set as a group"),
        ):
            yield f"{SHORT.get(attack, attack)}: {what}", found.get(key) or {}
    for signal, found in distinguishing.get("unlearned", {}).get("forget", {}).items():
        yield DISTINGUISHING.get(signal, signal).capitalize(), found.get("bound") or {}


def population(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Return the population attacks, in percent, a row per model of the run."""
    return Grid(
        "Legacy attacks on the forget set as a whole",
        "In percent, on the models of the run. Older papers report these. The target of each is "
        "Retrain's value, also of the drop from the original model. MIA: share of the forget set "
        "called unseen, below it by a threshold for each class. Below the loss attack's AUC its "
        "interval, below a TPR the number of negatives.",
        (("Model", ""), *((name, "") for name in COLUMNS.values())),
        [
            [
                (label(row["model"]), "target" if row["model"] == "retrain" else ""),
                *((number(row.get(key)), _below(row, key)) for key in COLUMNS),
            ]
            for row in rows
        ],
    )


def distances(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Return the distances of the run's models from the retrained one."""
    return Grid(
        "Distances from Retrain",
        "Outputs on the forget set (L1, 0 to 2; Jensen-Shannon in bits), and all weights together "
        "in units of Retrain's. ZRF: similarity to an untrained model, 0 to 1. Relearn: steps on "
        "the forget set until its loss is the original's again. The second Retrain is the floor, "
        "and the target of ZRF and relearning is Retrain's value.",
        (
            ("Model", ""),
            ("L1", ""),
            ("JS", "bits"),
            ("weights", ""),
            ("ZRF", ""),
            ("relearn", "steps"),
        ),
        [
            [
                (label(row["model"]), "target" if row["model"] == "retrain" else ""),
                *((number(row.get(key), 3), "") for key in ("activation", "js", "weights", "zrf")),
                (_steps(row), ""),
            ]
            for row in rows
        ],
    )


def _steps(row: Mapping[str, Any]) -> str:
    steps = row.get("relearn")
    if "relearn_steps" not in row:
        return DASH
    return f"over {row['relearn_steps']}" if steps is None else str(steps)


def _below(row: Mapping[str, Any], key: str) -> str:
    """Return the small text below a population attack's value."""
    threshold = (row.get("thresholds") or {}).get(key.removeprefix("svc_"))
    if key.startswith("svc_") and threshold is not None:
        return number(threshold)
    if key == "loss_auc" and row.get("loss_auc_interval"):
        return "\N{EN DASH}".join(map(number, row["loss_auc_interval"]))
    return f"of {number(row.get('negatives'), 0)}" if key.startswith("loss_tpr") else ""


def tables(audit: Mapping[str, Any]) -> list[Table]:
    """Return the tables for the terminal; they fit 80 columns.

    Example:
      for table in tables(found):
        rich.print(table)
    """
    return [_rich(_turned(grid) if len(grid.head) > WIDE else grid) for grid in grids(audit)]


def _turned(grid: Grid) -> Grid:
    """Transpose: many attacks fit the terminal's height, not its width."""
    head, *rows = zip(grid.head, *grid.rows, strict=True)
    names = [(textwrap.fill(name, 15), below) for name, below in head[1:]]
    return grid._replace(head=[("Attack", ""), *names], rows=rows)


def _rich(grid: Grid) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"\n{grid.title}",
        caption=grid.note,
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        width=80,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
    )
    for i, cell in enumerate(grid.head):
        look = {"justify": "right", "no_wrap": True} if i else {"overflow": "fold", "ratio": 1}
        table.add_column(_stack(cell), **look)
    for row in grid.rows:
        table.add_row(*map(_stack, row))
    return table


def _stack(cell: Cell):
    from rich.text import Text

    value, below = cell
    return Text.assemble(value, "\n", (below, "dim")) if below else Text(value)
