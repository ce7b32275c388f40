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

    confidence = {
        name: signals.confidence(logits[name], labels[name])
        for name in ("forget", "test", "members")
    }
    members, nonmembers = _balanced(confidence["members"], confidence["test"], seed)
    losses = {name: signals.loss(logits[name], labels[name]) for name in ("forget", "test")}
    return Row(
        model=model,
        ua=100.0 - accuracy(logits["forget"], labels["forget"]),
        ra=accuracy(logits["retain"], labels["retain"]),
        ta=accuracy(logits["test"], labels["test"]),
        mia=attacks.svc_mia(members, nonmembers, confidence["forget"]),
        auc=attacks.loss_auc(losses["forget"], losses["test"]),
        ks=attacks.ks_distance(confidence["forget"], confidence["test"]),
        seconds=float(seconds),
        ra_accessible=_optional_accuracy("accessible", logits, labels),
        ra_inaccessible=_optional_accuracy("inaccessible", logits, labels),
    )


def accuracy(logits: Array, labels: Array) -> float:
    """Return the percentage of examples whose largest logit is their label's."""
    return 100.0 * float(np.mean(signals.correctness(logits, labels)))


def with_gaps(rows: Sequence[Row], *, reference: str = "retrain") -> list[Row]:
    """Return the rows with gaps to the row named `reference`; unchanged if there is none."""
    target = next((row for row in rows if row.model == reference), None)
    return list(rows) if target is None else [_with_gaps(row, target) for row in rows]


def _with_gaps(row: Row, target: Row) -> Row:
    gaps = {metric: getattr(row, metric) - getattr(target, metric) for metric in GAP_METRICS}
    return row._replace(gaps=gaps, avg_gap=sum(map(abs, gaps.values())) / len(gaps))


def _optional_accuracy(
    name: str, logits: Mapping[str, Array], labels: Mapping[str, Array]
) -> float | None:
    return accuracy(logits[name], labels[name]) if len(labels.get(name, ())) else None


def _balanced(members: Array, nonmembers: Array, seed: int) -> tuple[Array, Array]:
    size = min(len(members), len(nonmembers))
    rng = np.random.default_rng(seed)
    return rng.permutation(members)[:size], rng.permutation(nonmembers)[:size]
