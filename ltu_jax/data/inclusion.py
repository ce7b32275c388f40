"""Inclusion bits: which example of each matched canary pair a shadow model is trained on.

Every forget example is paired with a retain example of its class. One fair bit per pair decides
which of the two a model trains on and then unlearns; the model never sees the other one. Exact
unlearning leaves no information about the bits in the model, so an attack that guesses them better
than chance shows a trace. Models come in pairs with opposite bits: one of them has unlearned an
example that the other has never seen.

References:
  Steinke, Nasr & Jagielski, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846.
  Carlini et al., "Membership Inference Attacks From First Principles", arXiv 2112.03570.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.types import Split


class CanaryPairs(NamedTuple):
    """Matched canary pairs, as index sets into the training set.

    Attributes:
      first: `[m]` forget examples.
      second: `[m]` retain examples; the class of `second[i]` is that of `first[i]`.
      unpaired: forget examples without a partner; every model trains on and unlearns them.
      base: retain examples in no pair; every model trains on them.
      accessible: the part of `base` that the method sees.
    """

    first: np.ndarray
    second: np.ndarray
    unpaired: np.ndarray
    base: np.ndarray
    accessible: np.ndarray


def pair_canaries(labels: np.ndarray, split: Split, *, seed: int) -> CanaryPairs:
    """Pair forget with retain examples of the same class.

    Partners are taken from the inaccessible part of the retain set first. At most half of a class's
    retain examples become partners.

    Args:
      labels: `[N]` of the training set.
      split: of the request.
      seed: draws the pairs.

    Raises:
      InputError: no forget example has a partner, as when a whole class is forgotten.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng([seed, 0])
    first, second = [], []
    for label in np.unique(labels[split.forget]):
        forget = rng.permutation(split.forget[labels[split.forget] == label])
        retain = rng.permutation(split.retain[labels[split.retain] == label])
        unseen_first = retain[np.argsort(np.isin(retain, split.accessible), kind="stable")]
        count = min(len(forget), len(retain) // 2)
        first.append(forget[:count])
        second.append(unseen_first[:count])
    first, second = np.concatenate(first), np.concatenate(second)
    if not len(first):
        raise InputError(
            "types",
            "shadow needs canary pairs, but no forget example has a retain example of its class",
            "choose original, retrain and unlearned",
        )
    return CanaryPairs(
        first,
        second,
        unpaired=np.setdiff1d(split.forget, first),
        base=np.setdiff1d(split.retain, second),
        accessible=np.setdiff1d(split.accessible, second),
    )


def draw_inclusion(num_models: int, num_canaries: int, *, seed: int) -> np.ndarray:
    """Draw inclusion bits `[num_models, num_canaries]`, True where `first` is trained on.

    Models 2k and 2k + 1 have opposite bits, so `num_models` is even.

    >>> print(draw_inclusion(2, 4, seed=0).sum(0))
    [1 1 1 1]
    """
    size = (num_models // 2, num_canaries)
    fair = np.random.default_rng([seed, 1]).integers(0, 2, size).astype(bool)
    return np.stack([fair, ~fair], axis=1).reshape(num_models, num_canaries)


def forgotten_rows(pairs: CanaryPairs, inclusion: np.ndarray) -> np.ndarray:
    """Return `[M, f]`, the training rows that each of M models trains on and then unlearns."""
    chosen = np.where(inclusion, pairs.first, pairs.second)
    return np.concatenate([chosen, np.tile(pairs.unpaired, (len(inclusion), 1))], axis=1)


def trained_rows(pairs: CanaryPairs, inclusion: np.ndarray) -> np.ndarray:
    """Return `[M, n]`, all training rows of each of M models."""
    base = np.tile(pairs.base, (len(inclusion), 1))
    return np.concatenate([base, forgotten_rows(pairs, inclusion)], axis=1)
