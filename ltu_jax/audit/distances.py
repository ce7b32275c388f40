"""Distances of unlearned from retrained models: margins, outputs, weights and relearning.

The noise floor of each distance is its value between two independent retrained models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit.checks import check, check_finite, check_probabilities, check_scores
from ltu_jax.errors import InputError
from ltu_jax.types import Array

LastBin = Literal["closed", "released"]

CLIP = 100.0  # margins are clipped to +-100, as in the released code
EMPTY_BIN = 1e-5  # smallest share of retrained models in a bin


class KLoMFloor(NamedTuple):
    """The mean KLoM of n examples under permutations of the labels "unlearned" and "retrained".

    Attributes:
      mean: over the permutations; its expectation under exact unlearning.
      high: 95 % quantile.
      p_value: share of permutations, the identity included, with at least the observed mean.
      example_p_values: `[n]`, the same for each example's KLoM.
    """

    mean: float
    high: float
    p_value: float
    example_p_values: np.ndarray


def klom(
    unlearned: Array, retrained: Array, *, bins: int = 20, last_bin: LastBin = "closed"
) -> np.ndarray:
    """Return KLoM `[n]`, in nats: the KL divergence of unlearned from retrained models' margins.

    Each example's margins, clipped to +-100, are counted in bins of equal width from the smallest
    to the largest of both; a bin without a retrained model has share 1e-5. KLoM is far above 0
    under exact unlearning, see `klom_floor`.

    Args:
      unlearned: margins `[N, n]`.
      retrained: margins `[R, n]`.
      bins: number of bins.
      last_bin: `"released"` reproduces the released code, which leaves the largest margin out.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, `bins` below 1; with `"released"`,
        examples whose unlearned margins all equal the largest one.

    >>> klom([[1.0], [2.0]], [[1.0], [1.0]], bins=2).round(2).tolist()
    [5.06]

    References:
      Georgiev et al., "Attribute-to-Delete", arXiv 2410.23232.
    """
    code = _binned(unlearned, retrained, bins, last_bin)
    counts = [_counts(part, bins) for part in np.split(code, [len(unlearned)])]
    lost = np.sum(counts[0].sum(axis=1) == 0)
    if lost:
        found = f"has {lost} examples whose margins all equal the largest, which is left out"
        raise InputError("unlearned", found, "give `last_bin` 'closed'")
    return _divergence(*counts)


def klom_floor(
    unlearned: Array, retrained: Array, *, bins: int = 20, draws: int = 200, seed: int = 0
) -> KLoMFloor:
    """Return the null distribution of `klom` by permuting which models are called retrained.

    Raises:
      InputError: as `klom`, or `draws` is below 1.

    >>> models = np.random.default_rng(0).normal(size=(40, 100))
    >>> floor = klom_floor(models[:20], models[20:])
    >>> print(f"{floor.mean:.0f}")
    3
    """
    check(draws >= 1, "draws", draws, "1 or more")
    real = klom(unlearned, retrained, bins=bins)
    # The bins depend on all models together, so permutations do not change them.
    code = _binned(unlearned, retrained, bins, "closed")
    every, rng = _counts(code, bins), np.random.default_rng(seed)
    means, as_large = np.empty(draws), np.ones(code.shape[1])
    for draw in range(draws):
        chosen = _counts(code[rng.permutation(len(code))[: len(unlearned)]], bins)
        values = _divergence(chosen, every - chosen)
        means[draw] = np.mean(values)
        as_large += values >= real
    return KLoMFloor(
        float(np.mean(means)),
        float(np.quantile(means, 0.95)),
        float((1 + np.sum(means >= np.mean(real))) / (draws + 1)),
        as_large / (draws + 1),
    )


def activation_distance(p: Array, q: Array) -> float:
    """Return the mean L1 distance, 0 to 2, of two models' predicted probabilities `[N, C]`.

    Raises:
      InputError: shapes differ, or rows are not probabilities.

    >>> activation_distance([[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]])
    0.4
    """
    p, q = _predictions("p", p, "q", q)
    return float(np.mean(np.sum(np.abs(p - q), axis=1)))


def js_divergence(p: Array, q: Array) -> np.ndarray:
    """Return the Jensen-Shannon divergence of probabilities `[N, C]`, `[N]` in bits, 0 to 1.

    Raises:
      InputError: shapes differ, or rows are not probabilities.

    >>> js_divergence([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]).tolist()
    [1.0, 0.0]
    """
    p, q = _predictions("p", p, "q", q)
    middle = (p + q) / 2
    kl = np.sum(scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle), axis=1)
    return np.clip(kl / 2 / np.log(2), 0, 1)


def zrf(p: Array, random_teacher_p: Array) -> float:
    """Return zero retrain forgetting, 1 - mean `js_divergence` from an untrained model, 0 to 1.

    1 is as random as the untrained model. The target is Retrain's value, which is lower because
    Retrain generalises.

    Raises:
      InputError: shapes differ, or rows are not probabilities.

    References:
      Chundawat et al., "Can Bad Teaching Induce Forgetting?", arXiv 2205.08096.
    """
    p, random_teacher_p = _predictions("p", p, "random_teacher_p", random_teacher_p)
    return 1.0 - float(np.mean(js_divergence(p, random_teacher_p)))


def weight_distance(
    params_a: Mapping[str, Array], params_b: Mapping[str, Array]
) -> dict[str, float]:
    """Return the L2 distance of each array from `params_b`'s, relative to the latter's norm.

    `total` is that of all arrays as one vector. From an array of zeros the distance is 0 if the
    arrays are equal, else infinite.

    Raises:
      InputError: names or shapes differ, NaN or infinity, no arrays, or an array named `total`.

    >>> weight_distance({"w": [3.0, 4.0], "b": [1.0]}, {"w": [3.0, 0.0], "b": [1.0]})["b"]
    0.0
    """
    pairs = _same_arrays(params_a, params_b)
    squares = {name: (np.sum((a - b) ** 2), np.sum(b**2)) for name, (a, b) in pairs.items()}
    squares["total"] = tuple(np.sum(list(squares.values()), axis=0))
    return {name: _relative(*each) for name, each in squares.items()}


def relearn_time(losses: Array, target_loss: float) -> int | None:
    """Return the first step at which the loss on the forget set is at most `target_loss`.

    The target is Retrain's value; faster relearning shows residual knowledge.

    Args:
      losses: `[T]`, after 0, 1, ... steps of training on the forget set, see `relearn_curve`.
      target_loss: the original model's loss.

    Returns:
      The step; None if the loss stays above.

    Raises:
      InputError: `losses` is empty, not of one axis or holds NaN; `target_loss` is not finite.

    >>> relearn_time([2.0, 1.0, 0.4, 0.2], 0.5)
    2
    """
    losses = check_scores("losses", losses)
    check(np.isfinite(target_loss), "target_loss", target_loss, "a finite number")
    back = np.flatnonzero(losses <= target_loss)
    return int(back[0]) if len(back) else None


def _binned(unlearned: Array, retrained: Array, bins: int, last_bin: LastBin) -> np.ndarray:
    """Return the bin of each margin, `[N + R, n]`; `bins` for margins in none."""
    check(bins >= 1, "bins", bins, "1 or more")
    check(last_bin in ("closed", "released"), "last_bin", repr(last_bin), "closed or released")
    unlearned = check_finite("unlearned", unlearned, 2)
    retrained = check_finite("retrained", retrained, 2)
    if unlearned.shape[1] != retrained.shape[1]:
        remedy = f"give {unlearned.shape[1]}, those of `unlearned`"
        raise InputError("retrained", f"has {retrained.shape[1]} examples", remedy)
    margins = np.clip(np.concatenate([unlearned, retrained]), -CLIP, CLIP)
    low, high = margins.min(axis=0), margins.max(axis=0)
    edges = np.linspace(low, np.where(high > low, high, low + 1), bins + 1)
    code = np.zeros(margins.shape, int)
    for edge in edges[1:]:  # bins are few, models and examples many
        code += margins >= edge
    return np.minimum(code, bins - 1) if last_bin == "closed" else code


def _counts(code: np.ndarray, bins: int) -> np.ndarray:
    """Return how many rows of `code` `[N, n]` are in each bin, `[n, bins]`."""
    size = bins + 1
    positions = code + size * np.arange(code.shape[1])
    return np.bincount(positions.ravel(), minlength=size * code.shape[1]).reshape(-1, size)[
        :, :bins
    ]


def _divergence(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the KL divergence `[n]` of counts `[n, bins]`."""
    p = unlearned / unlearned.sum(axis=1, keepdims=True)
    q = retrained / np.maximum(retrained.sum(axis=1, keepdims=True), 1)
    q = np.where(p > 0, np.maximum(q, EMPTY_BIN), q)
    kl = np.sum(scipy.special.rel_entr(p, q / q.sum(axis=1, keepdims=True)), axis=1)
    return np.maximum(kl, 0)  # rounding may make equal counts negative


def _predictions(name_p: str, p: Array, name_q: str, q: Array) -> tuple[np.ndarray, np.ndarray]:
    p, q = check_probabilities(name_p, p, 2), check_probabilities(name_q, q, 2)
    if p.shape != q.shape:
        raise InputError(name_q, f"has shape {q.shape}", f"give that of `{name_p}`, {p.shape}")
    for name, values in ((name_p, p), (name_q, q)):
        off = np.max(np.abs(np.sum(values, axis=1) - 1))
        if off > 1e-4:
            found = f"has rows whose sum differs from 1 by {off:.2g}"
            raise InputError(name, found, "give probabilities")
    return p, q


def _same_arrays(
    params_a: Mapping[str, Array], params_b: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    names = set(params_a) ^ set(params_b)
    if names or not params_a or "total" in params_a:
        found = f"is empty, holds 'total', or differs from `params_b` in the names {sorted(names)}"
        raise InputError("params_a", found, "give the same names")
    pairs = {}
    for name in params_a:
        a, b = (
            check_finite(which, params[name], np.ndim(params[name]))
            for which, params in (("params_a", params_a), ("params_b", params_b))
        )
        if a.shape != b.shape:
            found = f"has shape {b.shape} for {name!r}"
            raise InputError("params_b", found, f"give {a.shape}, as in `params_a`")
        pairs[name] = (a, b)
    return pairs


def _relative(square: float, norm_square: float) -> float:
    if norm_square == 0:
        return 0.0 if square == 0 else float("inf")
    return float(np.sqrt(square / norm_square))
