"""Ensembles and reference models in a file of outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.audit import signals
from ltu_jax.audit.ensembles import SHADOW, Outputs, ensemble_signals, part_rows
from ltu_jax.audit.features import LabelledLogits
from ltu_jax.audit.lira import lira_scores
from ltu_jax.audit.measure import ATTACK_SIZE
from ltu_jax.audit.outputs.kinds import check_kind, to_logits
from ltu_jax.audit.outputs.layout import ENSEMBLES, as_rows
from ltu_jax.audit.rmia import rmia_scores
from ltu_jax.audit.roc import roc_auc
from ltu_jax.errors import InputError
from ltu_jax.types import Split

LEAST = 8  # models of an ensemble; half of them fit the attack, the other half evaluate it


class Ensembles(NamedTuple):
    """Ensembles as `attack_ensembles` takes them: signals and inclusion bits by type."""

    outputs: dict[str, dict[str, Outputs]]
    inclusion: dict[str, np.ndarray]


class References(NamedTuple):
    """Reference models of attacks on single examples.

    Attributes:
      rows: `[n]`, sorted.
      margin: `[M, n]`.
      confidence: `[M, n]`.
      included: `[M, n]`, whether a model was trained on an example.
    """

    rows: np.ndarray
    margin: np.ndarray
    confidence: np.ndarray
    included: np.ndarray


def read_ensembles(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray, split: Split, kind: str, seed: int
) -> Ensembles:
    """Return the signals of every ensemble.

    Raises:
      InputError: shapes do not fit, an ensemble is too small, or arrays that belong to it lack.
    """
    read = {
        name: _rows_and_models(arrays, f"ensemble_{name}", labels, kind)
        for name in ENSEMBLES
        if f"ensemble_{name}" in arrays
    }
    outputs, inclusion = {}, {}
    for name, (rows, models) in read.items():
        alike = [one for other, (one, _) in read.items() if (other in SHADOW) == (name in SHADOW)]
        wanted = _parts(split, seed, alike)
        if name in SHADOW:
            pairs, inclusion[name] = _pairs(arrays, name, len(labels), len(models))
            wanted = {"first": pairs[:, 0], "second": pairs[:, 1], "test": wanted["test"]}
        outputs[name] = _signals(arrays, name, rows, models, labels, kind, wanted)
    if outputs and "retrain" not in outputs and "shadow_unlearned" not in outputs:
        remedy = "add 'ensemble_retrain' and 'ensemble_unlearned', or 'ensemble_shadow_unlearned'"
        raise InputError("outputs", f"has of ensembles only {', '.join(outputs)}", remedy)
    return Ensembles(outputs, inclusion)


def _parts(split: Split, seed: int, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of `part_rows` among those that all ensembles hold."""
    common = reduce(np.intersect1d, rows)
    held = Split(*(np.intersect1d(part, common) for part in split))
    parts = part_rows(held, seed)
    if not len(parts["test"]):
        raise InputError("outputs", "has ensembles without a test example", "add rows of test")
    return parts


def _rows_and_models(
    arrays: Mapping[str, np.ndarray], name: str, labels: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of an ensemble and its outputs `[M, n, C]` or `[M, n]`."""
    models, size = arrays[name], len(labels)
    rows = np.arange(size)
    if f"{name}_rows" in arrays:
        rows = as_rows(f"{name}_rows", arrays[f"{name}_rows"], size)
    one = arrays["original"].shape[1:]
    if models.ndim < 2 or models.shape[1:] != (len(rows), *one) or len(models) < LEAST:
        expected = ", ".join(map(str, ("M", len(rows), *one)))
        remedy = f"give [{expected}], M of {LEAST} or more"
        raise InputError("outputs", f"{name} has shape {models.shape}", remedy)
    for one in models:
        check_kind(name, np.asarray(one), kind)
    return rows, models


def _columns(name: str, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where the wanted rows are among the rows of an ensemble."""
    order = np.argsort(rows)
    at = np.searchsorted(rows[order], wanted)
    found = at < len(rows)
    found &= rows[order][np.minimum(at, len(rows) - 1)] == wanted
    if not found.all():
        missing = int(wanted[np.argmin(found)])
        problem = f"{name} lacks {int(np.sum(~found))} rows that it needs, such as row {missing}"
        raise InputError("outputs", problem, "give all rows, or those of forget, retain and test")
    return order[at]


def _signals(
    arrays: Mapping[str, np.ndarray],
    name: str,
    rows: np.ndarray,
    models: np.ndarray,
    labels: np.ndarray,
    kind: str,
    wanted: Mapping[str, np.ndarray],
) -> dict[str, Outputs]:
    full = f"ensemble_{name}"
    noisy = arrays.get(f"{full}_noisy")
    if noisy is not None and noisy.shape != models.shape[:2]:
        found = f"{full}_noisy has shape {noisy.shape}"
        raise InputError("outputs", found, f"give {models.shape[:2]}, a margin for each example")
    found = {}
    for part, some in wanted.items():
        if not len(some):
            raise InputError("outputs", f"{full} has no {part} example", "add their rows")
        columns = _columns(full, rows, some)
        given = None if noisy is None else np.ascontiguousarray(noisy[:, columns])
        found[part] = ensemble_signals(_each(models, columns, kind), labels[some], given)
    return found


def _each(models: np.ndarray, columns: np.ndarray, kind: str) -> Iterator[np.ndarray]:
    for one in models:
        yield to_logits(np.asarray(one)[columns], kind)


def _pairs(
    arrays: Mapping[str, np.ndarray], name: str, size: int, models: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return matched pairs `[m, 2]` and inclusion bits `[M, m]` of a shadow ensemble."""
    pairs, key = arrays.get("pairs"), f"ensemble_{name}_included"
    included = arrays.get(key)
    if pairs is None or included is None:
        lacking = "pairs" if pairs is None else key
        found = f"has ensemble_{name} but lacks {lacking!r}"
        raise InputError("outputs", found, "say which of two examples each model was trained on")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise InputError("outputs", f"pairs has shape {pairs.shape}", "give row numbers [m, 2]")
    rows = as_rows("pairs", np.ravel(pairs), size).reshape(pairs.shape)
    if included.dtype != bool or included.shape != (models, len(pairs)):
        found = f"{key} is {included.dtype} of shape {included.shape}"
        raise InputError("outputs", found, f"give booleans [{models}, {len(pairs)}]")
    included = np.asarray(included)
    if models % 2 or (included[::2] == included[1::2]).any():
        remedy = "train model 2k + 1 on the examples of each pair that model 2k was not trained on"
        raise InputError("outputs", f"{key} does not have models in opposite pairs", remedy)
    return rows, included


def read_references(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray, kind: str
) -> References | None:
    """Return the reference models; None if there are none.

    Raises:
      InputError: shapes do not fit, or `reference_included` lacks.
    """
    if "reference" not in arrays:
        return None
    rows, models = _rows_and_models(arrays, "reference", labels, kind)
    included = arrays.get("reference_included")
    if included is None or included.dtype != bool or included.shape != models.shape[:2]:
        found = "is missing" if included is None else f"is {included.dtype} {included.shape}"
        remedy = f"give booleans {models.shape[:2]}: was this model trained on this example?"
        raise InputError("outputs", f"reference_included {found}", remedy)
    order = np.argsort(rows)
    made = ensemble_signals(_each(models, order, kind), labels[rows[order]])
    return References(rows[order], made.margin, made.confidence, np.asarray(included)[:, order])


def population_rows(references: References, split: Split) -> np.ndarray:
    """Return validation examples that no reference model was trained on, at most 2,000."""
    unseen = references.rows[~references.included.any(0)]
    return np.intersect1d(unseen, split.validation)[:ATTACK_SIZE]


def attack_by_references(
    references: References,
    rows: Mapping[str, np.ndarray],
    sets: Mapping[str, LabelledLogits],
) -> dict[str, Any]:
    """Return the AUC, in percent, of LiRA and RMIA on one model: forget against test.

    Args:
      references: see `read_references`.
      rows: row numbers of `forget`, `test` and `population`.
      sets: the model's outputs on them.

    Returns:
      `reference_lira`, online where every example has two references of either side, else offline;
      `reference_rmia`, None without a population of ten examples. None if examples lack references.
    """
    chosen = {name: np.isin(rows[name], references.rows) for name in ("forget", "test")}
    columns, targets = {}, {}
    for name in ("forget", "test", "population"):
        some = chosen.get(name, np.ones(len(rows[name]), bool))
        columns[name] = np.searchsorted(references.rows, rows[name][some])
        targets[name] = LabelledLogits(sets[name].logits[some], sets[name].labels[some])
    both = np.concatenate([columns["forget"], columns["test"]])
    size = len(columns["forget"])
    count_in = references.included[:, both].sum(0)
    count_out = len(references.included) - count_in
    result: dict[str, Any] = {"reference_lira": None, "reference_rmia": None}
    if not size or size == len(both) or (count_out < 2).any():
        return result
    online = bool((count_in >= 2).all())
    margin = np.concatenate([signals.margin(*targets[n]) for n in ("forget", "test")])
    scores = lira_scores(
        margin,
        references.margin[:, both],
        references.included[:, both],
        attack="online" if online else "offline",
    )
    result["reference_lira"] = 100 * roc_auc(scores[:size], scores[size:])
    if online and len(columns["population"]) >= 10:
        p = np.concatenate([signals.confidence(*targets[n]) for n in ("forget", "test")])
        ratios = rmia_scores(
            p,
            references.confidence[:, both].T,
            signals.confidence(*targets["population"]),
            references.confidence[:, columns["population"]].T,
        )
        result["reference_rmia"] = 100 * roc_auc(ratios[:size], ratios[size:])
    return result
