"""Fair coins for per-example audits: which of two alike examples a network was trained on.

Every forget example is paired with a retain example of its class. For each pair a coin decides
which of the two a network trains on and then forgets; the other one it never sees. After exact
unlearning nothing of the coins is left in a network, so whoever guesses them better than by chance
has found a trace. Networks come in couples with opposite coins: every paired example has been
forgotten by one of them and never seen by the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.types import Split

Array = np.ndarray


class Pairs(NamedTuple):
    """Index sets into the training set.

    Attributes:
      first: `[m]` forget examples.
      second: `[m]` retain examples; each has the class of `first` at the same place.
      alone: forget examples for which there was no partner: always trained on and forgotten.
      base: retain examples in no pair: always trained on.
      accessible: the part of `base` that the method sees.
    """

    first: Array
    second: Array
    alone: Array
    base: Array
    accessible: Array


def pair(labels: Array, split: Split, *, seed: int) -> Pairs:
    """Pair forget with retain examples of the same class.

    Partners come from the part of retain that the method does not see, as far as that suffices, and
    are at most half of a class's retain examples.

    Args:
      labels: `[N]` of the training set.
      split: of the request.
      seed: draws the pairs.

    Raises:
      InputError: no forget example has a partner, as where a class is forgotten as a whole.
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
            "--kind shadow: no forget example has a retain example of its class to be paired with; "
            "take the kinds original, retrain and unlearned"
        )
    return Pairs(
        first,
        second,
        alone=np.setdiff1d(split.forget, first),
        base=np.setdiff1d(split.retain, second),
        accessible=np.setdiff1d(split.accessible, second),
    )


def toss(num_couples: int, num_pairs: int, *, seed: int) -> Array:
    """Return booleans `[2 num_couples, num_pairs]`: True where `Pairs.first` was trained on.

    Rows 2k and 2k + 1 are a couple: each the opposite of the other.

    >>> print(toss(1, 4, seed=0).sum(0))
    [1 1 1 1]
    """
    fair = np.random.default_rng([seed, 1]).integers(0, 2, (num_couples, num_pairs)).astype(bool)
    return np.stack([fair, ~fair], axis=1).reshape(2 * num_couples, num_pairs)


def forgotten_rows(pairs: Pairs, coins: Array) -> Array:
    """Return `[M, f]`, what each of M networks trains on and then forgets."""
    chosen = np.where(coins, pairs.first, pairs.second)
    return np.concatenate([chosen, np.tile(pairs.alone, (len(coins), 1))], axis=1)


def trained_rows(pairs: Pairs, coins: Array) -> Array:
    """Return `[M, n]`, all that each of M networks trains on."""
    return np.concatenate(
        [np.tile(pairs.base, (len(coins), 1)), forgotten_rows(pairs, coins)], axis=1
    )
