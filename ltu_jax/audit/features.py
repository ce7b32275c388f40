"""Attacks that learn from shadow sets by each of five features of a prediction, in percent.

A set is a pair of logits `[N, C]` and labels `[N]`. The shadow members are examples that the model
certainly saw, such as retain examples, and the shadow non-members those it did not, such as test
examples; the target sets are others, which the attack did not learn from.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ltu_jax.audit import attacks, signals
from ltu_jax.errors import InputError

Array = np.ndarray
Variant = Literal["song-mittal", "salun-2024"]


class Labelled(NamedTuple):
    """Logits `[N, C]` and labels `[N]` of the same examples."""

    logits: Array
    labels: Array


class Recognised(NamedTuple):
    """Percent of the target members called members, and of the non-members called non-members."""

    members: float
    nonmembers: float


def features(data: Labelled, *, variant: Variant = "song-mittal") -> dict[str, Array]:
    """The five features: four `[N]`, and the full probabilities `[N, C]`.

    `variant` is that of `signals.modified_entropy`.
    """
    logits, labels = data
    return {
        "correctness": signals.correctness(logits, labels),
        "confidence": signals.confidence(logits, labels),
        "entropy": signals.entropy(logits),
        "modified_entropy": signals.modified_entropy(logits, labels, variant=variant),
        "probabilities": np.exp(signals.log_softmax(logits)),
    }


def svc_mia_all(
    members: Labelled, nonmembers: Labelled, forget: Labelled, *, variant: Variant = "song-mittal"
) -> dict[str, float]:
    """Forget efficacy of `attacks.svc_mia` by each of the five features.

    The target of each is Retrain's value. With `variant="salun-2024"` they are those of SalUn's
    released code (Fan et al., arXiv 2310.12508).

    Raises:
      InputError: a set is empty, has other shapes, or logits that are not finite.
    """
    member, nonmember, target = _features_of(
        variant, members=members, nonmembers=nonmembers, forget=forget
    )
    return {name: attacks.svc_mia(member[name], nonmember[name], target[name]) for name in member}


def svc_training_privacy(
    members: Labelled,
    nonmembers: Labelled,
    target_members: Labelled,
    target_nonmembers: Labelled,
    *,
    variant: Variant = "song-mittal",
) -> dict[str, float]:
    """Balanced accuracy of SVC-MIA on other members and non-members, by each of the five features.

    50 is a coin's. It tells how strong the attack is, whatever was forgotten: a forget efficacy
    means little where this is 50.

    Raises:
      InputError: as `svc_mia_all`.
    """
    member, nonmember, inside, outside = _features_of(
        variant,
        members=members,
        nonmembers=nonmembers,
        target_members=target_members,
        target_nonmembers=target_nonmembers,
    )
    calls = {
        name: attacks.svc_calls(member[name], nonmember[name], inside[name], outside[name])
        for name in member
    }
    return {
        name: 50.0 * float(np.mean(called_in) + np.mean(~called_out))
        for name, (called_in, called_out) in calls.items()
    }


def threshold_attacks(
    members: Labelled,
    nonmembers: Labelled,
    target_members: Labelled,
    target_nonmembers: Labelled,
) -> dict[str, Recognised]:
    """Black-box attacks with one threshold for each class and feature (Song & Mittal 2003.10595).

    The threshold is the one with the best balanced accuracy on the shadow examples of that class,
    and what is rated are the target sets. With the forget set as `target_nonmembers` the second
    number is a forget efficacy. By `correctness` it is the correctness gap, without a threshold.

    Raises:
      InputError: as `svc_mia_all`, or a class of the targets lacks shadow members or non-members.
    """
    sets = {
        "members": members,
        "nonmembers": nonmembers,
        "target_members": target_members,
        "target_nonmembers": target_nonmembers,
    }
    member, nonmember, inside, outside = _features_of("song-mittal", **sets)
    labels = [np.asarray(data[1]) for data in sets.values()]
    _check_classes(*labels)
    correct = inside["correctness"], 1 - outside["correctness"]
    results = {"correctness": Recognised(*(100.0 * float(np.mean(right)) for right in correct))}
    # Members have more confidence and less entropy.
    for name, sign in {"confidence": 1, "entropy": -1, "modified_entropy": -1}.items():
        values = [sign * values[name] for values in (member, nonmember, inside, outside)]
        results[name] = _per_class(values, labels)
    return results


def _per_class(values: list[Array], labels: list[Array]) -> Recognised:
    right = np.zeros(2)
    for label in np.unique(np.concatenate(labels[2:])):
        member, nonmember, inside, outside = (
            v[y == label] for v, y in zip(values, labels, strict=True)
        )
        threshold = _best_threshold(member, nonmember)
        right += np.sum(inside >= threshold), np.sum(outside < threshold)
    shares = 100.0 * right / [len(labels[2]), len(labels[3])]
    return Recognised(*shares.tolist())


def _best_threshold(members: Array, nonmembers: Array) -> float:
    """The value with the best balanced accuracy; of equals the first in order, members first."""
    values = np.concatenate([members, nonmembers])
    hits = len(members) - np.searchsorted(np.sort(members), values)
    rejections = np.searchsorted(np.sort(nonmembers), values)
    return values[np.argmax(hits / len(members) + rejections / len(nonmembers))]


def _features_of(variant: Variant, **sets: Labelled) -> list[dict[str, Array]]:
    for name, data in sets.items():
        attacks.check_labelled(name, *data)
    return [features(data, variant=variant) for data in sets.values()]


def _check_classes(*labels: Array) -> None:
    targets = np.unique(np.concatenate(labels[2:]))
    for name, shadow in zip(("members", "nonmembers"), labels[:2], strict=True):
        missing = np.setdiff1d(targets, shadow)
        if missing.size:
            raise InputError(
                f"{name} has no example of class {missing[0]}, which the targets hold; add some"
            )
