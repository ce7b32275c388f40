"""The report's table: one row of metrics per model, and gaps to the retrained model, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltu_jax.audit import attacks, signals
from ltu_jax.errors import DivergedError
from ltu_jax.types import Array

GAP_METRICS = ("ua", "ra", "ta", "mia")


class Row(NamedTuple):
    """Metrics of one model, in percent. The target of each is Retrain's value.

    Attributes:
      model: `original`, `retrain`, `retrain_2` or the method's name.
      ua: unlearning accuracy, 100 - accuracy on the forget set.
      ra: accuracy on the whole retain set.
      ta: accuracy on the test set.
      mia: `attacks.svc_mia` on the confidence: share of the forget set classified as non-member.
      auc: `attacks.loss_auc`, forget against test.
      ks: `attacks.ks_distance` of the confidences, forget against test.
      seconds: wall time to make the model, compilation included.
      ra_accessible: accuracy on the accessible retain examples.
      ra_inaccessible: accuracy on the others; None if there are none.
      avg_gap: mean absolute gap over UA, RA, TA and MIA, in percentage points; None without
        Retrain.
      gaps: this model's value minus Retrain's, by metric; None without Retrain.
      attack_success: share of triggered test inputs classified as a backdoor's target class; None
        without a known backdoor.
    """

    model: str
    ua: float
    ra: float
    ta: float
    mia: float
    auc: float
    ks: float
    seconds: float
    ra_accessible: float | None = None
    ra_inaccessible: float | None = None
    avg_gap: float | None = None
    gaps: Mapping[str, float] | None = None
    attack_success: float | None = None


def evaluate(
    model: str,
    logits: Mapping[str, Array],
    labels: Mapping[str, Array],
    *,
    seconds: float,
    seed: int = 0,
) -> Row:
    """Return a model's row, without gaps.

    Args:
      model: name of the row.
      logits: `[N, C]` of the sets `forget`, `retain`, `test` and `members` (retain examples for the
        attack, from `request.attack_members`), and optionally `accessible` and `inaccessible`.
      labels: `[N]` of the same sets.
      seconds: wall time to make the model.
      seed: draws equal numbers of `members` and `test` examples for the attack.

    Raises:
      DivergedError: a logit is NaN or infinite.
    """
    for name, values in logits.items():
        if not np.isfinite(values).all():
            raise DivergedError(f"{model}: logits on the {name} set are not finite")
    return row_of(model, example_scores(logits, labels), seconds=seconds, seed=seed)


def example_scores(
    logits: Mapping[str, Array], labels: Mapping[str, Array]
) -> dict[str, np.ndarray]:
    """Return the per-example scores that a `Row` is computed from, by set and score.

    Every set has `correct` (0 or 1), `forget` and `test` have `confidence` and `loss` as well,
    `members` has `confidence`. Arguments as for `evaluate`.
    """
    scores = {
        f"{name}_correct": signals.correctness(values, labels[name]).astype(np.uint8)
        for name, values in logits.items()
        if name != "members"
    }
    for name in ("forget", "test", "members"):
        scores[f"{name}_confidence"] = signals.confidence(logits[name], labels[name])
    for name in ("forget", "test"):
        scores[f"{name}_loss"] = signals.loss(logits[name], labels[name])
    return scores


def row_of(model: str, scores: Mapping[str, np.ndarray], *, seconds: float, seed: int = 0) -> Row:
    """Return a model's row, without gaps, from the scores that `example_scores` returns.

    Raises:
      KeyError: a score is missing.
    """
    members, nonmembers = _balanced(scores["members_confidence"], scores["test_confidence"], seed)
    return Row(
        model=model,
        ua=100.0 - _percent(scores["forget_correct"]),
        ra=_percent(scores["retain_correct"]),
        ta=_percent(scores["test_correct"]),
        mia=attacks.svc_mia(members, nonmembers, scores["forget_confidence"]),
        auc=attacks.loss_auc(scores["forget_loss"], scores["test_loss"]),
        ks=attacks.ks_distance(scores["forget_confidence"], scores["test_confidence"]),
        seconds=float(seconds),
        ra_accessible=_optional_percent(scores.get("accessible_correct")),
        ra_inaccessible=_optional_percent(scores.get("inaccessible_correct")),
    )


def accuracy(logits: Array, labels: Array) -> float:
    """Return the percentage of examples whose largest logit is their label's."""
    return _percent(signals.correctness(logits, labels))


def with_gaps(rows: Sequence[Row], *, reference: str = "retrain") -> list[Row]:
    """Return the rows with gaps to the row named `reference`; unchanged if there is none."""
    target = next((row for row in rows if row.model == reference), None)
    return list(rows) if target is None else [_with_gaps(row, target) for row in rows]


def _with_gaps(row: Row, target: Row) -> Row:
    gaps = {metric: getattr(row, metric) - getattr(target, metric) for metric in GAP_METRICS}
    return row._replace(gaps=gaps, avg_gap=sum(map(abs, gaps.values())) / len(gaps))


def _percent(correct: Array) -> float:
    return 100.0 * float(np.mean(correct))


def _optional_percent(correct: Array | None) -> float | None:
    return None if correct is None or len(correct) == 0 else _percent(correct)


def _balanced(members: Array, nonmembers: Array, seed: int) -> tuple[Array, Array]:
    size = min(len(members), len(nonmembers))
    rng = np.random.default_rng(seed)
    return rng.permutation(members)[:size], rng.permutation(nonmembers)[:size]
