r"""RMIA: how many points of a population an example stands out from, by ratios of probabilities.

p is the probability of the true class. A higher score means "was trained on"; scores are fractions.
Zarifzadeh et al., arXiv 2312.03262.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ltu_jax.audit import roc
from ltu_jax.audit.references import (
    check_booleans,
    check_counts,
    check_pool,
    check_probabilities,
    judges,
)
from ltu_jax.errors import InputError

Array = np.ndarray
Variant = Literal["mean", "released"]

OFFLINE_A = np.arange(11) / 10  # what `tune_offline_a` tries


class Tuned(NamedTuple):
    """The best `offline_a`, and the AUC and scores `[n]` that it gives on the model it is for."""

    offline_a: float
    auc: float
    scores: Array


def rmia(
    target: Array,
    references: Array,
    population: Array,
    population_references: Array,
    *,
    offline_a: float | None = None,
    gamma: float = 1.0,
    variant: Variant = "mean",
) -> Array:
    r"""RMIA's score `[n]` of one target model: share of population points that x dominates.

    x dominates z where $\frac{p(x)}{\Pr(x)} > \gamma \frac{p(z)}{\Pr(z)}$; Pr is the mean over R
    reference models. Online, half of them were trained on x. Offline, none was, and the mean is
    taken to $((1 + a) \Pr_{out} + 1 - a) / 2$, for x and for z.

    Args:
      target: p `[n]` of the examples under the target model.
      references: `[n, R]`, p under reference models, which may be others for each example.
      population: `[z]`, p of points that no model was trained on.
      population_references: `[z, S]`, p under reference models.
      offline_a: a in [0, 1], see `tune_offline_a`; None for online.
      gamma: 1, as in the released code, or more.
      variant: `released` averages the R largest of the S references of a population point, as
        Privacy Meter does, which makes Pr(z) too high.

    Raises:
      InputError: shapes that do not fit; a probability outside [0, 1], or a Pr of 0; `offline_a` or
        `gamma` out of range; `released` with S below R.

    >>> rmia([0.9, 0.4], [[0.5], [0.5]], [0.5, 0.6], [[0.5], [0.5]]).tolist()
    [1.0, 0.0]
    """
    _check_options(offline_a, gamma)
    target, references = _points("", target, references)
    population, population_references = _points("population", population, population_references)
    chosen = _chosen(population_references, references.shape[1], variant)
    prior = _prior("references", np.mean(references, axis=1), offline_a)
    prior_z = _prior("population_references", np.mean(chosen, axis=1), offline_a)
    return _dominated(target / prior, population / prior_z, gamma)


def tune_offline_a(
    target: Array,
    references: Array,
    population: Array,
    population_references: Array,
    member: Array,
    *,
    variant: Variant = "mean",
) -> Tuned:
    """Choose `rmia`'s `offline_a` from 0, 0.1, ... 1 by the AUC on a model with known members.

    That model takes the target's place, and `member` `[n]` are booleans. The model that is to be
    attacked must take no part. Of equally good values the smallest is chosen.

    Raises:
      InputError: as `rmia`; there are no members, or no others.
    """
    member = check_booleans("member", member, np.shape(target))
    tried = []
    for a in OFFLINE_A.tolist():
        scores = rmia(
            target, references, population, population_references, offline_a=a, variant=variant
        )
        tried.append(Tuned(a, roc.auc(scores[member], scores[~member]), scores))
    return max(tried, key=lambda one: one.auc)


def leave_out_rmia(
    p: Array,
    included: Array,
    groups: Array,
    population_p: Array,
    *,
    offline_a: float | None = None,
    gamma: float = 1.0,
    halved: bool = False,
) -> Array:
    """`rmia`'s scores `[M, n]` of every model of a pool, each judged by all *other* groups.

    Online, Pr(x) is the middle between the mean over IN and the mean over OUT models, however many
    there are of each; offline, OUT models alone count. No model was trained on the population.

    Args:
      p: probabilities `[M, n]`.
      included: `[M, n]` booleans, as for `lira.leave_out`; so for the next one.
      groups: `[M]` labels.
      population_p: probabilities `[M, z]` of the population.
      offline_a: as for `rmia`.
      gamma: as for `rmia`.
      halved: as for `lira.leave_out`.

    Raises:
      InputError: as `rmia`, or an example is left without a reference that the attack needs.
    """
    _check_options(offline_a, gamma)
    p, included = check_pool("p", check_probabilities("p", p, 2), included)
    population_p = check_probabilities("population_p", population_p, 2)
    if len(population_p) != len(p):
        raise InputError(
            f"population_p has {len(population_p)} models, p has {len(p)}; give as many"
        )
    index, judging = judges(groups, len(p), halved=halved)
    masks = {"IN": included, "OUT": ~included}
    if offline_a is not None:
        del masks["IN"]
    check_counts({side: judging @ mask for side, mask in masks.items()}, 1)
    means = [judging @ (p * mask) / (judging @ mask) for mask in masks.values()]
    prior = _prior("p", np.mean(means, axis=0), offline_a)
    mean_z = judging @ population_p / np.sum(judging, axis=1, keepdims=True)
    prior_z = _prior("population_p", mean_z, offline_a)
    ratios = zip(p / prior[index], population_p / prior_z[index], strict=True)
    return np.stack([_dominated(*ratio, gamma) for ratio in ratios])


def _dominated(ratio: Array, ratio_z: Array, gamma: float) -> Array:
    """Share of `ratio_z` `[z]` that lies below each `ratio` / gamma, `[n]`."""
    # A search among sorted ratios, for n x z comparisons of a large pool would not fit in memory.
    return np.searchsorted(np.sort(ratio_z), ratio / gamma, side="left") / len(ratio_z)


def _prior(name: str, mean: Array, offline_a: float | None) -> Array:
    """Pr, from the mean probability under reference models."""
    prior = mean if offline_a is None else ((1 + offline_a) * mean + 1 - offline_a) / 2
    zeros = np.sum(prior == 0)
    if zeros:
        raise InputError(f"{name} makes {zeros} means of 0; give probabilities above 0")
    return prior


def _chosen(references: Array, size: int, variant: Variant) -> Array:
    """The references of population points `[z, S]` that are averaged."""
    if variant not in ("mean", "released"):
        raise InputError(f"variant is {variant!r}; give mean or released")
    if variant == "mean":
        return references
    if references.shape[1] < size:
        raise InputError(
            f"population_references has {references.shape[1]} models and references {size}; "
            "give as many at least, or variant='mean'"
        )
    return np.sort(references, axis=1)[:, -size:]


def _points(kind: str, p: Array, references: Array) -> tuple[Array, Array]:
    names = (kind, f"{kind}_references") if kind else ("target", "references")
    p, references = (
        check_probabilities(name, values, ndim)
        for name, values, ndim in zip(names, (p, references), (1, 2), strict=True)
    )
    if len(p) != len(references):
        raise InputError(
            f"{names[0]} has {len(p)} points and {names[1]} {len(references)}; give the same"
        )
    return p, references


def _check_options(offline_a: float | None, gamma: float) -> None:
    if offline_a is not None and not 0 <= offline_a <= 1:
        raise InputError(f"offline_a is {offline_a}; give a number between 0 and 1, or None")
    if not gamma >= 1:
        raise InputError(f"gamma is {gamma}; give 1 or more")
