r"""RMIA: pairwise likelihood ratios of an example against population points.

p is the probability of the true class. A higher score means "was trained on"; scores are fractions.

References:
  Zarifzadeh, Liu & Shokri, "Low-Cost High-Power Membership Inference Attacks", arXiv 2312.03262.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ltu_jax.audit.checks import check, check_booleans, check_count, check_probabilities
from ltu_jax.audit.references import check_counts, check_ensemble, reference_masks
from ltu_jax.audit.roc import roc_auc
from ltu_jax.errors import InputError
from ltu_jax.types import Array

Variant = Literal["mean", "released"]

OFFLINE_A = np.arange(11) / 10  # candidates of `tune_offline_a`


class Tuned(NamedTuple):
    """The best `offline_a`, with its AUC and scores `[n]` on the model with known members."""

    offline_a: float
    auc: float
    scores: np.ndarray


def rmia_scores(
    target: Array,
    references: Array,
    population: Array,
    population_references: Array,
    *,
    offline_a: float | None = None,
    gamma: float = 1.0,
    variant: Variant = "mean",
) -> np.ndarray:
    r"""Return RMIA's score `[n]` of one target model: the share of population points x dominates.

    x dominates z if $\frac{p(x)}{\Pr(x)} > \gamma \frac{p(z)}{\Pr(z)}$; Pr is the mean over R
    reference models. Online, half of them were trained on x. Offline, none was, and Pr is
    $((1 + a) \Pr_{out} + 1 - a) / 2$ for x and z.

    Args:
      target: p `[n]` of the examples under the target model.
      references: `[n, R]`, p under reference models, which may differ between examples.
      population: `[z]`, p of points that no model was trained on.
      population_references: `[z, S]`, p under reference models.
      offline_a: a in [0, 1], see `tune_offline_a`; None for online.
      gamma: 1, as in the released code, or more.
      variant: `"released"` averages the R largest of the S references of a population point, as
        Privacy Meter does, which overestimates Pr(z).

    Raises:
      InputError: shapes that do not fit; a probability outside [0, 1], or a Pr of 0; `offline_a` or
        `gamma` out of range; `released` with S below R.

    >>> rmia_scores([0.9, 0.4], [[0.5], [0.5]], [0.5, 0.6], [[0.5], [0.5]]).tolist()
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
    """Choose `offline_a` from 0, 0.1, ... 1 by the AUC on a model with known members.

    That model is the target here, with booleans `member` `[n]`; it must not be the model under
    attack. The smallest of equally good values is chosen.

    Raises:
      InputError: as `rmia_scores`; there are no members, or no others.
    """
    member = check_booleans("member", member, np.shape(target))
    tried = []
    for a in OFFLINE_A.tolist():
        scores = rmia_scores(
            target, references, population, population_references, offline_a=a, variant=variant
        )
        tried.append(Tuned(a, roc_auc(scores[member], scores[~member]), scores))
    return max(tried, key=lambda one: one.auc)


def leave_one_out_rmia(
    p: Array,
    included: Array,
    groups: Array,
    population_p: Array,
    *,
    offline_a: float | None = None,
    gamma: float = 1.0,
    halved: bool = False,
) -> np.ndarray:
    """Return `rmia_scores` `[M, n]` of every model; its references are all *other* groups.

    Online, Pr(x) is the midpoint of the means over IN and over OUT models, whatever their numbers;
    offline it uses OUT models only. No model was trained on the population.

    Args:
      p: probabilities `[M, n]`.
      included: `[M, n]` booleans, see `leave_one_out_lira`.
      groups: `[M]` labels, see `leave_one_out_lira`.
      population_p: probabilities `[M, z]` of the population.
      offline_a: see `rmia_scores`.
      gamma: see `rmia_scores`.
      halved: see `leave_one_out_lira`.

    Raises:
      InputError: as `rmia_scores`, or an example is left without a reference that the attack needs.
    """
    _check_options(offline_a, gamma)
    p, included = check_ensemble("p", check_probabilities("p", p, 2), included)
    population_p = check_probabilities("population_p", population_p, 2)
    if len(population_p) != len(p):
        raise InputError(
            "population_p", f"has {len(population_p)} models", f"give {len(p)}, as `p`"
        )
    index, reference = reference_masks(groups, len(p), halved=halved)
    masks = {"IN": included, "OUT": ~included}
    if offline_a is not None:
        del masks["IN"]
    check_counts({side: reference @ mask for side, mask in masks.items()}, 1)
    means = [reference @ (p * mask) / (reference @ mask) for mask in masks.values()]
    prior = _prior("p", np.mean(means, axis=0), offline_a)
    mean_z = reference @ population_p / np.sum(reference, axis=1, keepdims=True)
    prior_z = _prior("population_p", mean_z, offline_a)
    ratios = zip(p / prior[index], population_p / prior_z[index], strict=True)
    return np.stack([_dominated(*ratio, gamma) for ratio in ratios])


def _dominated(ratio: np.ndarray, ratio_z: np.ndarray, gamma: float) -> np.ndarray:
    """Share of `ratio_z` `[z]` that lies below each `ratio` / gamma, `[n]`."""
    # A search among sorted ratios: n x z comparisons of a large ensemble would not fit in memory.
    return np.searchsorted(np.sort(ratio_z), ratio / gamma, side="left") / len(ratio_z)


def _prior(name: str, mean: np.ndarray, offline_a: float | None) -> np.ndarray:
    """Pr, from the mean probability under reference models."""
    prior = mean if offline_a is None else ((1 + offline_a) * mean + 1 - offline_a) / 2
    check_count(np.sum(prior == 0), name, "examples with mean 0", "give probabilities above 0")
    return prior


def _chosen(references: np.ndarray, size: int, variant: Variant) -> np.ndarray:
    """The references of population points `[z, S]` that are averaged."""
    check(variant in ("mean", "released"), "variant", repr(variant), "mean or released")
    if variant == "mean":
        return references
    if references.shape[1] < size:
        remedy = f"give at least {size}, as many as `references`, or `variant` 'mean'"
        raise InputError("population_references", f"has {references.shape[1]} models", remedy)
    return np.sort(references, axis=1)[:, -size:]


def _points(name: str, p: Array, references: Array) -> tuple[np.ndarray, np.ndarray]:
    names = (name, f"{name}_references") if name else ("target", "references")
    p, references = (
        check_probabilities(argument, values, ndim)
        for argument, values, ndim in zip(names, (p, references), (1, 2), strict=True)
    )
    if len(p) != len(references):
        raise InputError(
            names[1], f"has {len(references)} points", f"give {len(p)}, as `{names[0]}`"
        )
    return p, references


def _check_options(offline_a: float | None, gamma: float) -> None:
    fits = offline_a is None or 0 <= offline_a <= 1
    check(fits, "offline_a", offline_a, "a number between 0 and 1, or None")
    check(gamma >= 1, "gamma", gamma, "1 or more")
