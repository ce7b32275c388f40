"""Attacks fitted to shadow sets by each of five features of a prediction, in percent.

Shadow members are examples that the model was trained on, such as retain examples, and shadow
non-members others, such as test examples. Target sets are separate from them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ltu_jax.audit import signals
from ltu_jax.audit.attacks import svc_calls, svc_mia
from ltu_jax.audit.checks import check_labelled
from ltu_jax.errors import InputError
from ltu_jax.types import Array

Variant = Literal["song-mittal", "salun-2024"]


class LabelledLogits(NamedTuple):
    """Logits `[N, C]` and labels `[N]` of the same examples."""

    logits: Array
    labels: Array


class Recognised(NamedTuple):
    """Percent of the target members and of the target non-members that are recognised."""

    members: float
    nonmembers: float


def prediction_features(
    data: LabelledLogits, *, variant: Variant = "song-mittal"
) -> dict[str, np.ndarray]:
    """Return the five features: four `[N]`, and the probabilities `[N, C]`.

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


def svc_mia_by_feature(
    members: LabelledLogits,
    nonmembers: LabelledLogits,
    forget: LabelledLogits,
    *,
    variant: Variant = "song-mittal",
) -> dict[str, float]:
    """Return `svc_mia`'s forget efficacy by each of the five features.

    The target of each is Retrain's value. `variant="salun-2024"` reproduces SalUn's released code
    (Fan et al., arXiv 2310.12508).

    Raises:
      InputError: a set is empty, has other shapes, or logits that are not finite.
    """
    member, nonmember, target = _features_of(
        variant, members=members, nonmembers=nonmembers, forget=forget
    )
    return {name: svc_mia(member[name], nonmember[name], target[name]) for name in member}


def svc_training_privacy(
    members: LabelledLogits,
    nonmembers: LabelledLogits,
    target_members: LabelledLogits,
    target_nonmembers: LabelledLogits,
    *,
    variant: Variant = "song-mittal",
) -> dict[str, float]:
    """Return SVC-MIA's balanced accuracy on separate members and non-members, by feature.

    It measures the attack's strength; 50 is chance, and a forget efficacy then means little.

    Raises:
      InputError: as `svc_mia_by_feature`.
    """
    member, nonmember, inside, outside = _features_of(
        variant,
        members=members,
        nonmembers=nonmembers,
        target_members=target_members,
        target_nonmembers=target_nonmembers,
    )
    calls = {
        name: svc_calls(member[name], nonmember[name], inside[name], outside[name])
        for name in member
    }
    return {
        name: 50.0 * float(np.mean(called_in) + np.mean(~called_out))
        for name, (called_in, called_out) in calls.items()
    }


def threshold_attacks(
    members: LabelledLogits,
    nonmembers: LabelledLogits,
    target_members: LabelledLogits,
    target_nonmembers: LabelledLogits,
) -> dict[str, Recognised]:
    """Rate attacks with one threshold per class and feature on the target sets.

    Each threshold has the best balanced accuracy on the shadow examples of its class. With the
    forget set as `target_nonmembers`, `nonmembers` is a forget efficacy. `correctness` needs no
    threshold.

    Raises:
      InputError: as `svc_mia_by_feature`, or a class of the targets lacks shadow members or
        non-members.

    References:
      Song & Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
      arXiv 2003.10595.
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


def _per_class(values: list[np.ndarray], labels: list[np.ndarray]) -> Recognised:
    right = np.zeros(2)
    for label in np.unique(np.concatenate(labels[2:])):
        member, nonmember, inside, outside = (
            v[y == label] for v, y in zip(values, labels, strict=True)
        )
        threshold = _best_threshold(member, nonmember)
        right += np.sum(inside >= threshold), np.sum(outside < threshold)
    shares = 100.0 * right / [len(labels[2]), len(labels[3])]
    return Recognised(*shares.tolist())


def _best_threshold(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Return the value with the best balanced accuracy, the first of equals, members first."""
    values = np.concatenate([members, nonmembers])
    hits = len(members) - np.searchsorted(np.sort(members), values)
    rejections = np.searchsorted(np.sort(nonmembers), values)
    return values[np.argmax(hits / len(members) + rejections / len(nonmembers))]


def _features_of(variant: Variant, **sets: LabelledLogits) -> list[dict[str, np.ndarray]]:
    for name, data in sets.items():
        check_labelled(name, *data)
    return [prediction_features(data, variant=variant) for data in sets.values()]


def _check_classes(*labels: np.ndarray) -> None:
    targets = np.unique(np.concatenate(labels[2:]))
    for name, shadow in zip(("members", "nonmembers"), labels[:2], strict=True):
        missing = np.setdiff1d(targets, shadow)
        if missing.size:
            found = f"has no example of class {missing[0]}, which the targets hold"
            raise InputError(name, found, "add some")
