"""How far unlearned networks are from retrained ones: in margins, outputs, weights and behaviour.

Retrain's own value, against a second and independent Retrain, is the floor of each distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit.attacks import check_labelled
from ltu_jax.audit.references import check_finite, check_probabilities
from ltu_jax.errors import InputError

Array = np.ndarray
LastBin = Literal["closed", "released"]

CLIP = 100.0  # margins beyond are clipped, as by the released code
EMPTY_BIN = 1e-5  # least share that a bin of the retrained models counts


class KLoMFloor(NamedTuple):
    """The mean KLoM of n examples, when it is drawn by lot which models are the retrained ones.

    Attributes:
      mean: over the draws; what exact unlearning is expected to give.
      high: its 95 % point.
      p_value: share of draws, the real one among them, whose mean is as large as the real one.
      example_p_values: `[n]`, the same for each example's own KLoM.
    """

    mean: float
    high: float
    p_value: float
    example_p_values: Array


def klom(
    unlearned: Array, retrained: Array, *, bins: int = 20, last_bin: LastBin = "closed"
) -> Array:
    """KL divergence `[n]` in nats of unlearned models' margins `[N, n]` from retrained's `[R, n]`.

    Each example's margins, clipped to +-100, are counted in bins of equal width from the smallest
    to the largest of both. A bin that has no retrained model counts 1e-5 of them. It is 0 where the
    margins are all the same. KLoM is far above 0 by chance, see `klom_floor`. Georgiev et al.,
    arXiv 2410.23232.

    `last_bin="released"` is for comparison with numbers printed by the released code alone, which
    leaves the largest margin of both samples out of all bins.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, `bins` below 1; with `released`, examples
        whose unlearned margins are all the largest one, which leaves nothing to count.

    >>> klom([[1.0], [2.0]], [[1.0], [1.0]], bins=2).round(2).tolist()
    [5.06]
    """
    code = _binned(unlearned, retrained, bins, last_bin)
    counts = [_counts(part, bins) for part in np.split(code, [len(unlearned)])]
    lost = np.sum(counts[0].sum(axis=1) == 0)
    if lost:
        raise InputError(
            f"unlearned has {lost} examples with all margins in the largest value, which "
            "last_bin='released' leaves out; give last_bin='closed'"
        )
    return _divergence(*counts)


def klom_floor(
    unlearned: Array, retrained: Array, *, bins: int = 20, draws: int = 200, seed: int = 0
) -> KLoMFloor:
    """What `klom` gives under exact unlearning, by permuting which models are called retrained.

    Raises:
      InputError: as `klom`, or `draws` is below 1.

    >>> models = np.random.default_rng(0).normal(size=(40, 100))
    >>> floor = klom_floor(models[:20], models[20:])
    >>> print(f"{floor.mean:.0f}")
    3
    """
    if draws < 1:
        raise InputError(f"draws is {draws}; give 1 or more")
    real = klom(unlearned, retrained, bins=bins)
    # The bins hang on all models together, so that no draw changes them.
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
    """Mean L1 distance, 0 to 2, of two models' predicted probabilities `[N, C]`.

    Raises:
      InputError: shapes that differ, or rows that are no probabilities.

    >>> activation_distance([[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]])
    0.4
    """
    p, q = _predictions("p", p, "q", q)
    return float(np.mean(np.sum(np.abs(p - q), axis=1)))


def js_divergence(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence of predicted probabilities `[N, C]`, `[N]` in bits, 0 to 1.

    Raises:
      InputError: shapes that differ, or rows that are no probabilities.

    >>> js_divergence([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]).tolist()
    [1.0, 0.0]
    """
    p, q = _predictions("p", p, "q", q)
    middle = (p + q) / 2
    kl = np.sum(scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle), axis=1)
    return np.clip(kl / 2 / np.log(2), 0, 1)


def zrf(p: Array, random_teacher_p: Array) -> float:
    """Zero retrain forgetting, 0 to 1: 1 - mean `js_divergence` from an untrained network's output.

    1 is as random as that network. Retrain generalises and has less: its value is the one to aim
    at. Chundawat et al., arXiv 2205.08096.

    Raises:
      InputError: shapes that differ, or rows that are no probabilities.
    """
    p, random_teacher_p = _predictions("p", p, "random_teacher_p", random_teacher_p)
    return 1.0 - float(np.mean(js_divergence(p, random_teacher_p)))


def weight_distance(
    params_a: Mapping[str, Array], params_b: Mapping[str, Array]
) -> dict[str, float]:
    """L2 distance of each array of `params_a` from `params_b`'s, in units of the latter's norm.

    `total` is that of all arrays as one vector. Where all of `params_b` is 0, the distance is 0 if
    the arrays are the same, else infinite.

    Raises:
      InputError: other names or shapes in one than in the other, NaN or infinity, no arrays, or an
        array that is called `total`.

    >>> weight_distance({"w": [3.0, 4.0], "b": [1.0]}, {"w": [3.0, 0.0], "b": [1.0]})["b"]
    0.0
    """
    pairs = _same_arrays(params_a, params_b)
    squares = {name: (np.sum((a - b) ** 2), np.sum(b**2)) for name, (a, b) in pairs.items()}
    squares["total"] = tuple(np.sum(list(squares.values()), axis=0))
    return {name: _relative(*each) for name, each in squares.items()}


def interclass_confusion(logits: Array, labels: Array, pairs: Sequence[tuple[int, int]]) -> float:
    """Percent of the examples of the paired classes that are called the other class of a pair.

    For requests that forget confused labels: what is left of the confusion (Goel et al.,
    arXiv 2201.06640). Logits are `[N, C]`, labels `[N]` the true ones.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, pairs of equal or unknown classes, or no
        example of their classes.

    >>> interclass_confusion([[1.0, 0.0], [0.0, 1.0]], [1, 1], [(0, 1)])
    50.0
    """
    check_labelled("the set", logits, labels)
    pairs, classes = np.asarray(pairs), np.shape(logits)[1]
    fits = pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind in "iu"
    if not fits or (pairs[:, 0] == pairs[:, 1]).any() or not np.isin(pairs, range(classes)).all():
        raise InputError(
            f"pairs is {pairs.tolist()}; give pairs of two classes from 0 to {classes - 1}"
        )
    chosen = np.isin(labels, pairs)
    if not chosen.any():
        raise InputError(f"labels have no example of {pairs.tolist()}; give other pairs")
    confused = np.zeros((classes, classes), bool)
    confused[pairs[:, 0], pairs[:, 1]] = confused[pairs[:, 1], pairs[:, 0]] = True
    calls = np.argmax(logits, axis=1)
    return 100.0 * float(np.mean(confused[np.asarray(labels), calls][chosen]))


def relearn_time(losses: Array, target_loss: float) -> int | None:
    """First step at which the loss on the forget set is down to `target_loss`, the original's.

    `losses` `[T]` are those after 0, 1, ... steps of training on the forget set. None if the loss
    does not come down in time. Retrain's value is the one to aim at: a faster return shows that
    the unlearned network still knew.

    Raises:
      InputError: `losses` is empty, not of one axis or holds NaN; `target_loss` is not finite.

    >>> relearn_time([2.0, 1.0, 0.4, 0.2], 0.5)
    2
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or not losses.size or np.isnan(losses).any():
        raise InputError(f"losses has shape {losses.shape} or NaN; give [T] without NaN")
    if not np.isfinite(target_loss):
        raise InputError(f"target_loss is {target_loss}; give a finite number")
    back = np.flatnonzero(losses <= target_loss)
    return int(back[0]) if len(back) else None


def linear_probe(
    train_features: Array, train_labels: Array, test_features: Array, test_labels: Array
) -> float:
    """Percent right of a logistic regression on a network's standardised features `[N, F]`.

    It shows what a network still tells apart inside, though its outputs hide it. Labels `[N]`.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, or fewer than 2 classes to learn.

    >>> linear_probe([[0.0], [1.0]], [0, 1], [[-1.0], [3.0], [2.0], [4.0]], [0, 1, 0, 0])
    50.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_features, train_labels = _labelled("train", train_features, train_labels)
    test_features, test_labels = _labelled("test", test_features, test_labels)
    if train_features.shape[1] != test_features.shape[1]:
        raise InputError(
            f"train_features and test_features have {train_features.shape[1]} and "
            f"{test_features.shape[1]} features; give the same"
        )
    if len(np.unique(train_labels)) < 2:
        raise InputError("train_labels has 1 class; give examples of 2 or more")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(train_features, train_labels)
    return 100.0 * float(probe.score(test_features, test_labels))


def _binned(unlearned: Array, retrained: Array, bins: int, last_bin: LastBin) -> Array:
    """Number of each margin's bin, `[N + R, n]`; `bins` where it is in none."""
    if bins < 1:
        raise InputError(f"bins is {bins}; give 1 or more")
    if last_bin not in ("closed", "released"):
        raise InputError(f"last_bin is {last_bin!r}; give closed or released")
    unlearned, retrained = (
        check_finite("unlearned", unlearned, 2),
        check_finite("retrained", retrained, 2),
    )
    if unlearned.shape[1] != retrained.shape[1]:
        raise InputError(
            f"unlearned has {unlearned.shape[1]} examples and retrained {retrained.shape[1]}; "
            "give the same ones"
        )
    margins = np.clip(np.concatenate([unlearned, retrained]), -CLIP, CLIP)
    low, high = margins.min(axis=0), margins.max(axis=0)
    edges = np.linspace(low, np.where(high > low, high, low + 1), bins + 1)
    code = np.zeros(margins.shape, int)
    for edge in edges[1:]:  # bins are few, models and examples many
        code += margins >= edge
    return np.minimum(code, bins - 1) if last_bin == "closed" else code


def _counts(code: Array, bins: int) -> Array:
    """How many of the rows of `code` `[N, n]` are in each bin, `[n, bins]`."""
    size = bins + 1
    places = code + size * np.arange(code.shape[1])
    return np.bincount(places.ravel(), minlength=size * code.shape[1]).reshape(-1, size)[:, :bins]


def _divergence(unlearned: Array, retrained: Array) -> Array:
    """KL divergence `[n]` of counts `[n, bins]`, with the least share for empty bins."""
    p = unlearned / unlearned.sum(axis=1, keepdims=True)
    q = retrained / np.maximum(retrained.sum(axis=1, keepdims=True), 1)
    q = np.where(p > 0, np.maximum(q, EMPTY_BIN), q)
    kl = np.sum(scipy.special.rel_entr(p, q / q.sum(axis=1, keepdims=True)), axis=1)
    return np.maximum(kl, 0)  # equal counts may be below by rounding


def _predictions(name_p: str, p: Array, name_q: str, q: Array) -> tuple[Array, Array]:
    p, q = check_probabilities(name_p, p, 2), check_probabilities(name_q, q, 2)
    if p.shape != q.shape:
        raise InputError(f"{name_p} is {p.shape} and {name_q} {q.shape}; give equal shapes")
    for name, values in ((name_p, p), (name_q, q)):
        off = np.max(np.abs(np.sum(values, axis=1) - 1))
        if off > 1e-4:
            raise InputError(f"{name} has rows whose sum is off 1 by {off:.2g}; give probabilities")
    return p, q


def _same_arrays(
    params_a: Mapping[str, Array], params_b: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    names = set(params_a) ^ set(params_b)
    if names or not params_a or "total" in params_a:
        raise InputError(
            f"params_a and params_b differ in the names {sorted(names)}, are empty or hold a "
            "'total'; give the same names"
        )
    pairs = {}
    for name in params_a:
        a, b = (
            check_finite(f"{which}[{name!r}]", params[name], np.ndim(params[name]))
            for which, params in (("params_a", params_a), ("params_b", params_b))
        )
        if a.shape != b.shape:
            raise InputError(f"{name} is {a.shape} in params_a and {b.shape} in params_b")
        pairs[name] = (a, b)
    return pairs


def _relative(square: float, norm_square: float) -> float:
    if norm_square == 0:
        return 0.0 if square == 0 else float("inf")
    return float(np.sqrt(square / norm_square))


def _labelled(name: str, features: Array, labels: Array) -> tuple[Array, Array]:
    features, labels = check_finite(f"{name}_features", features, 2), np.asarray(labels)
    if labels.shape != (len(features),):
        raise InputError(
            f"{name}_labels has shape {labels.shape}; give one label for each of {len(features)}"
        )
    return features, labels
