"""What the audit needs of one model's outputs, read in blocks of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltu_jax.audit import summary
from ltu_jax.audit.features import LabelledLogits
from ltu_jax.audit.measure import audit_sets, class_accuracy
from ltu_jax.audit.models import ATTACKED
from ltu_jax.audit.outputs.kinds import blocks, to_logits
from ltu_jax.errors import warn
from ltu_jax.types import Split

MOST = 100_000  # forget and test examples that attacks see; more are drawn by the seed


class Sets(NamedTuple):
    """Rows of the sets of an audit.

    Attributes:
      rated: rows by set, for accuracies.
      attacked: rows of `forget`, `members` and `test`, for attacks, at most `MOST` each; with
        reference models also `population`.
    """

    rated: dict[str, np.ndarray]
    attacked: dict[str, np.ndarray]


class Collected(NamedTuple):
    """One model's outputs.

    Attributes:
      scores: see `summary.example_scores`.
      sets: outputs on the sets that attacks see.
      class_accuracy: see `Measurements`.
    """

    scores: dict[str, np.ndarray]
    sets: dict[str, LabelledLogits]
    class_accuracy: np.ndarray


def find_sets(split: Split, seed: int) -> Sets:
    """Return the sets of an audit, as for a run of this library."""
    rated = audit_sets(split, seed) | {"test": split.test}
    rng = np.random.default_rng(seed)
    attacked = {name: rated[name] for name in ATTACKED}
    for name in ("forget", "test"):
        if len(rated[name]) > MOST:
            attacked[name] = np.sort(rng.permutation(rated[name])[:MOST])
            warn(
                f"attacks see {MOST:,} of the {len(rated[name]):,} {name} examples, drawn at random"
            )
    return Sets(rated, attacked)


def collect(
    array: np.ndarray, kind: str, labels: np.ndarray, sets: Sets, classes: int
) -> Collected:
    """Read a model's outputs.

    Args:
      array: `[N, C]` or `[N]`.
      kind: of the outputs, one of `KINDS` except `auto`.
      labels: `[N]`.
      sets: see `find_sets`.
      classes: number of classes C.
    """
    needed = np.unique(np.concatenate(list(sets.attacked.values())))
    correct = np.empty(len(labels), np.uint8)
    kept = []
    for first, block in blocks(array):
        logits = to_logits(block, kind)
        last = first + len(block)
        correct[first:last] = summary.signals.correctness(logits, labels[first:last])
        start, stop = np.searchsorted(needed, [first, last])
        kept.append(logits[needed[start:stop] - first])
    logits = np.concatenate(kept)
    attacked = {
        name: LabelledLogits(logits[np.searchsorted(needed, rows)], labels[rows])
        for name, rows in sets.attacked.items()
    }
    scores = summary.example_scores(
        {name: np.asarray(attacked[name].logits) for name in ATTACKED},
        {name: np.asarray(attacked[name].labels) for name in ATTACKED},
    )
    scores |= {f"{n}_correct": correct[r] for n, r in sets.rated.items() if n != "members"}
    test = sets.rated["test"]
    right = np.bincount(labels[test[correct[test] == 1]], minlength=classes)
    counts = np.bincount(labels[test], minlength=classes)
    return Collected(scores, attacked, class_accuracy(right, counts))
