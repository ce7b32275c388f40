"""The audit of outputs that any framework made: every number that needs no model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.audit import summary
from ltu_jax.audit.checks import check_levels
from ltu_jax.audit.ensembles import attack_ensembles
from ltu_jax.audit.measure import Measurements
from ltu_jax.audit.models import compare_outputs
from ltu_jax.audit.outputs import ensembles, layout
from ltu_jax.audit.outputs.collect import Collected, collect, find_sets
from ltu_jax.audit.outputs.files import open_arrays
from ltu_jax.audit.outputs.kinds import SCORES, check_kind
from ltu_jax.errors import InputError, check_integer, collect_warnings, warn
from ltu_jax.types import Split

# What scores of the true class alone do not give.
_OF_CLASSES = ("ua", "ra", "ta", "ra_accessible", "ra_inaccessible")
_OF_ALL_OUTPUTS = (
    "svc_correctness",
    "svc_entropy",
    "svc_modified_entropy",
    "svc_probabilities",
    "supervised",
)


class OutputsAudit(NamedTuple):
    """The audit of a file of outputs.

    Attributes:
      measured: the report's numbers, see `Measurements`.
      audit: the entry `audit` of `report.json`, see `runs.audit_run`; `left_out` lists what these
        outputs cannot show, and what it needs.
      split: rows of forget, retain, accessible, validation and test examples.
      classes: number of classes.
      kind: of the outputs.
      about: names for the report: `data`, `model`, `method`, `seed`, `class_names`, `seconds`.
      seed: of subsets and folds.
      warnings: what may be a mistake.
    """

    measured: Measurements
    audit: dict[str, Any]
    split: Split
    classes: int
    kind: str
    about: dict[str, Any]
    seed: int
    warnings: list[str]


class _Checked(NamedTuple):
    """Arrays that passed all checks."""

    arrays: Mapping[str, np.ndarray]
    models: list[str]
    labels: np.ndarray
    split: Split
    kind: str
    classes: int
    about: dict[str, Any]
    seed: int
    ensembles: ensembles.Ensembles
    references: ensembles.References | None

    @property
    def scored(self) -> bool:
        """Whether the outputs are scores of the true class alone."""
        return self.kind in SCORES


def from_outputs(
    source: Mapping[str, Any] | str | os.PathLike,
    *,
    kind: str = "auto",
    seed: int | None = None,
    alpha: float = 0.05,
) -> OutputsAudit:
    """Audit models of any framework by their outputs.

    Args:
      source: arrays by name, or a file of them, see docs/audit_any_model.md. Needed: `original` and
        `unlearned`, outputs `[N, C]`; `labels` `[N]`; `part` `[N]`: `forget`, `retain`,
        `retain_unseen`, `validation` or `test`. `retrain`, `retrain_2`, ... are the target.
      kind: `logits`, `probabilities` or `log_probabilities` `[N, C]`; `confidence`, `loss` or
        `margin` `[N]` of the true class; `auto` finds the kind of `[N, C]`.
      seed: of subsets and folds; None takes that of the file, else 0.
      alpha: chance of a false alarm, shared among all counted tests.

    Raises:
      InputError: the source does not hold what the audit needs; nothing was computed.

    >>> rng = np.random.default_rng(0)
    >>> outputs = {"labels": rng.integers(0, 3, 90)}
    >>> outputs["part"] = np.repeat(["forget", "retain", "test"], 30)
    >>> outputs |= {name: rng.normal(size=(90, 3)) for name in ("original", "unlearned")}
    >>> [row.model for row in from_outputs(outputs).measured.rows]
    ['original', 'unlearned']
    """
    check_levels(alpha=alpha)
    if seed is not None:
        check_integer("seed", seed)
    with open_arrays(source) as arrays, collect_warnings() as warnings:
        checked = _check(arrays, kind, seed)
        method = checked.about.get("method", "unlearned")
        names = {name: method if name == "unlearned" else name for name in checked.models}
        sets = find_sets(checked.split, checked.seed)
        if checked.references is not None:
            rows = ensembles.population_rows(checked.references, checked.split)
            sets.attacked["population"] = rows
        collected = {
            names[name]: collect(arrays[name], checked.kind, checked.labels, sets, checked.classes)
            for name in checked.models
        }
        return OutputsAudit(
            measured=_measure(checked, collected, {v: k for k, v in names.items()}),
            audit=_audit(checked, collected, sets.attacked, alpha) | {"method": method},
            split=checked.split,
            classes=checked.classes,
            kind=checked.kind,
            about=checked.about,
            seed=checked.seed,
            warnings=warnings,
        )


def _check(arrays: Mapping[str, np.ndarray], kind: str, seed: int | None) -> _Checked:
    """Check everything before any attack."""
    models = layout.check_names(arrays)
    about = layout.read_about(arrays.get("about"))
    untrained = [layout.UNTRAINED] if layout.UNTRAINED in arrays else []
    shape = layout.check_shapes(arrays, [*models, *untrained])
    seed = int(about.get("seed", 0) if seed is None else seed)
    kind = _one_kind(arrays, [*models, *untrained], kind)
    classes = 2 if len(shape) == 1 or shape[1] == 1 else shape[1]
    if kind not in SCORES:
        layout.check_class_names(about, classes)
    labels = layout.read_labels(arrays.get("labels"), shape, kind in SCORES)
    split = layout.read_split(arrays, shape[0])
    return _Checked(
        arrays=arrays,
        models=models,
        labels=labels,
        split=split,
        kind=kind,
        classes=classes,
        about=about,
        seed=seed,
        ensembles=ensembles.read_ensembles(arrays, labels, split, kind, seed),
        references=ensembles.read_references(arrays, labels, kind),
    )


def _one_kind(arrays: Mapping[str, np.ndarray], models: list[str], kind: str) -> str:
    """Return the kind of all outputs."""
    kinds = {}
    for name in models:
        kinds[name], facts = check_kind(name, arrays[name], kind)
        if kinds[name] != kinds["original"]:
            found = f"original looks like {kinds['original']} and {name} like {kinds[name]}"
            remedy = "give outputs of one kind, and say which"
            raise InputError("kind", f"is 'auto', but {found}", remedy)
        _warn_of_precision(name, arrays[name], kinds[name], facts.saturated)
    return kinds["original"]


def _warn_of_precision(name: str, array: np.ndarray, kind: str, saturated: int) -> None:
    if array.dtype == np.float16:
        warn(f"{name} is float16: examples of nearly equal confidence have equal ranks")
    if kind in ("probabilities", "confidence") and saturated:
        warn(
            f"{name} has {saturated:,} probabilities of exactly 0 or 1: the examples that a model "
            "is most sure of have equal ranks; logits keep them apart"
        )


def _measure(
    checked: _Checked, collected: Mapping[str, Collected], arrays: Mapping[str, str]
) -> Measurements:
    seconds = checked.about.get("seconds", {})
    rows = []
    for name, one in collected.items():
        time = float(seconds.get(arrays[name], np.nan))
        row = summary.row_of(name, one.scores, seconds=time, seed=checked.seed)
        rows.append(row._replace(**dict.fromkeys(_OF_CLASSES, np.nan)) if checked.scored else row)
    return Measurements(
        rows=summary.with_gaps(rows),
        signals={name: one.scores for name, one in collected.items()},
        class_accuracy={}
        if checked.scored
        else {name: one.class_accuracy for name, one in collected.items()},
    )


def _audit(
    checked: _Checked,
    collected: Mapping[str, Collected],
    rows: Mapping[str, np.ndarray],
    alpha: float,
) -> dict[str, Any]:
    untrained = None
    if layout.UNTRAINED in checked.arrays and not checked.scored:
        sets = find_sets(checked.split, checked.seed)
        array = checked.arrays[layout.UNTRAINED]
        made = collect(array, checked.kind, checked.labels, sets, checked.classes)
        untrained = made.sets["forget"].logits
    sets = {name: one.sets for name, one in collected.items()}
    found = compare_outputs(sets, alpha=alpha, seed=checked.seed, untrained=untrained)
    for row in found["population"]:
        if checked.scored:
            row |= dict.fromkeys(_OF_ALL_OUTPUTS) | {"thresholds": {}}
        if checked.references is not None:
            row |= ensembles.attack_by_references(checked.references, rows, sets[row["model"]])
    if checked.scored:
        found["distances"] = []
    attacked = attack_ensembles(
        *checked.ensembles,
        alpha=alpha,
        seed=checked.seed,
        shares=checked.about.get("shares", ""),
    )
    made = {
        name: {"models": len(next(iter(parts.values())).margin), "seconds": None, "folder": "given"}
        for name, parts in checked.ensembles.outputs.items()
    }
    return {
        "alpha": alpha,
        **found,
        "ensembles": made,
        **attacked,
        "left_out": left_out(checked),
    }


def left_out(checked: _Checked) -> list[str]:
    """Return what these outputs cannot show, and what it needs."""
    sentences = []
    if "retrain" not in checked.models:
        sentences.append(
            "Gaps to Retrain, the average gap, the noise floor, the interval of the loss attack "
            "and distances from Retrain (L1, Jensen-Shannon): they need outputs of models "
            "retrained without the forget set (retrain, retrain_2)."
        )
    elif "retrain_2" not in checked.models:
        sentences.append(
            "The noise floor of the average gap and the interval of the loss attack: they need "
            "outputs of a second retrained model (retrain_2)."
        )
    if checked.scored:
        sentences.append(
            f"UA, RA, TA, the attacks by correctness, entropy and all outputs, and distances: they "
            f"need the outputs of all classes, not the {checked.kind} of the true class."
        )
    elif layout.UNTRAINED not in checked.arrays:
        sentences.append("ZRF: it needs the outputs of an untrained model (untrained).")
    sentences.append("Relearning and the distance of the weights: they need the models themselves.")
    known = checked.ensembles.outputs
    noisy = [f"ensemble_{n}_noisy" for n in known if f"ensemble_{n}_noisy" not in checked.arrays]
    if noisy:
        sentences.append(f"Attacks on noisy copies: they need {', '.join(noisy)}.")
    if checked.references is None:
        sentences.append(
            "LiRA and RMIA on these models: they need reference models (reference, "
            "reference_included)."
        )
    return sentences
