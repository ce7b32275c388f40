r"""LiRA: likelihood ratios of two Gaussians per example, fitted to reference models.

Arrays `[M, n]` are of M reference models and n examples; `included` is True (IN) where the model
was trained on the example, else False (OUT). The signal phi is `signals.margin`. A higher score
means "was trained on".

References:
  Carlini et al., "Membership Inference Attacks From First Principles", arXiv 2112.03570.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit.checks import check, check_booleans, check_finite
from ltu_jax.audit.references import check_counts, check_ensemble, reference_masks
from ltu_jax.errors import InputError
from ltu_jax.types import Array

Attack = Literal["online", "offline", "offline_two_sided", "in_only", "offset", "global"]

STD_FLOOR = 1e-30  # as in the released code; prevents a division by 0
# The reference models that each attack uses.
_NEEDS = {
    "online": ("IN", "OUT"),
    "offline": ("OUT",),
    "offline_two_sided": ("OUT",),
    "in_only": ("IN",),
    "offset": ("IN", "OUT"),
    "global": (),
}


class _Normal(NamedTuple):
    mean: np.ndarray
    std: np.ndarray | np.floating | float


def lira_scores(
    target: Array,
    references: Array,
    included: Array,
    *,
    attack: Attack = "online",
    fixed_variance: bool = False,
    centre: Literal["mean", "median"] = "mean",
) -> np.ndarray:
    r"""Return LiRA's score `[n]` of one target model.

    One Gaussian is fitted to each example's IN references and one to its OUT references. The
    attacks:

    * `online`: $\ln N(\phi; in) - \ln N(\phi; out)$;
    * `offline`: $(\phi - \mu_{out}) / \sigma_{out}$, which ranks as the paper's one-sided test and
      does not saturate; `offline_two_sided`: $-\ln N(\phi; out)$, the much weaker released form;
    * `in_only`: $\ln N(\phi; in)$;
    * `offset`: $\phi$ minus the midpoint of both centres; `global`: $\phi$ itself.

    Args:
      target: signals `[n]`, or `[n, k]` for k augmented queries, whose scores are averaged.
      references: signals `[M, n]` or `[M, n, k]`.
      included: `[M, n]` booleans.
      attack: see above.
      fixed_variance: use one variance for all examples, about their own centres.
      centre: `"median"` is TensorFlow Privacy's `compute_score_lira`.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, or an example with too few references on
        a side that the attack needs: below 2, or below 1 if it needs no variance per example.

    >>> references = np.array([[2.0, 0.0], [3.0, 1.0], [0.0, 3.0], [1.0, 4.0]])
    >>> included = np.array([[True, False], [True, False], [False, True], [False, True]])
    >>> lira_scores([2.5, 0.5], references, included).round(6).tolist()
    [8.0, -18.0]
    """
    target, references, masks = _queries(target, references, included, attack)
    _check_counts(
        {side: np.sum(mask, axis=0) for side, mask in masks.items()}, attack, fixed_variance
    )
    sides = {
        side: _normal(references, mask, fixed_variance, centre) for side, mask in masks.items()
    }
    return np.mean(_compare(target, sides, attack), axis=1)


def released_lira_scores(
    target: Array,
    references: Array,
    included: Array,
    *,
    attack: Literal["online", "offline_two_sided", "global"] = "online",
    fixed_variance: bool = False,
) -> np.ndarray:
    """Return the score `[n]` of LiRA's released code, to reproduce numbers in papers.

    Differences from `lira_scores`: medians; each side keeps as many references, the first ones, as
    the example with the fewest has; `fixed_variance` is the spread over all examples together, in
    the online attack that of the IN references for both sides; one reference is enough.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, or an example without a reference on a
        side that the attack needs.
    """
    released = ("online", "offline_two_sided", "global")
    check(attack in released, "attack", repr(attack), f"one of {', '.join(released)}")
    target, references, masks = _queries(target, references, included, attack)
    counts = {side: np.sum(mask, axis=0) for side, mask in masks.items()}
    check_counts(counts, 1)
    masks = {
        side: mask & (np.cumsum(mask, 0) <= counts[side].min()) for side, mask in masks.items()
    }
    sides = {side: _normal(references, mask, False, "median") for side, mask in masks.items()}
    if fixed_variance and sides:
        spread = np.std(references[next(iter(masks.values()))]) + STD_FLOOR
        sides = {side: normal._replace(std=spread) for side, normal in sides.items()}
    return np.mean(_compare(target, sides, attack), axis=1)


def leave_one_out_lira(
    phi: Array,
    included: Array,
    groups: Array,
    *,
    attack: Attack = "online",
    fixed_variance: bool = False,
    halved: bool = False,
) -> np.ndarray:
    """Return `lira_scores` `[M, n]` of every model; its references are all *other* groups.

    For trained models this is LiRA. If `included` means "trained on and then unlearned", and all
    others have never seen the example, it is U-LiRA.

    Args:
      phi: signals `[M, n]`.
      included: `[M, n]` booleans.
      groups: `[M]` labels. Models that share a seed are not independent and share a label.
      attack: see `lira_scores`.
      fixed_variance: see `lira_scores`.
      halved: use only references in the same half of the groups, to select examples for
        `per_example.worst_auc`.

    Raises:
      InputError: as `lira_scores`, for the references that remain without one group.

    References:
      Hayes et al., "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of
      Privacy", arXiv 2403.01218.
    """
    phi, included = check_ensemble("phi", phi, included)
    index, reference = reference_masks(groups, len(phi), halved=halved)
    masks = _masks(included, attack)
    _check_counts({side: reference @ mask for side, mask in masks.items()}, attack, fixed_variance)
    sides = {
        side: _Normal(
            *(part[index] for part in _leave_one_out(phi, mask, reference, fixed_variance))
        )
        for side, mask in masks.items()
    }
    return _compare(phi, sides, attack)


def _compare(phi: np.ndarray, sides: dict[str, _Normal], attack: Attack) -> np.ndarray:
    if attack == "global":
        return phi
    if attack == "offset":
        return phi - (sides["IN"].mean + sides["OUT"].mean) / 2
    if attack == "offline":
        return (phi - sides["OUT"].mean) / sides["OUT"].std
    signs = {"IN": 1, "OUT": -1}
    total = np.zeros(np.shape(phi))
    for side, normal in sides.items():
        total = total + signs[side] * scipy.stats.norm.logpdf(phi, *normal)
    return total


def _normal(references: np.ndarray, mask: np.ndarray, fixed_variance: bool, centre: str) -> _Normal:
    """Centre and deviation `[n, k]` of the masked references `[M, n, k]` of each example."""
    check(centre in ("mean", "median"), "centre", repr(centre), "mean or median")
    values = np.where(mask[..., None], references, np.nan)
    middle = np.nanmean(values, axis=0) if centre == "mean" else np.nanmedian(values, axis=0)
    std = np.nanstd(values - middle) if fixed_variance else np.nanstd(values, axis=0)
    return _Normal(middle, std + STD_FLOOR)


def _leave_one_out(
    phi: np.ndarray, mask: np.ndarray, reference: np.ndarray, fixed_variance: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation `[G, n]` over the masked reference models of each group."""
    # Centred first, because sums of squares cancel less near 0.
    middle = np.sum(phi * mask, axis=0) / np.maximum(np.sum(mask, axis=0), 1)
    residual = (phi - middle) * mask
    count, total, square = reference @ mask, reference @ residual, reference @ residual**2
    deviation = square - total**2 / count
    if fixed_variance:
        variance = np.sum(deviation, 1, keepdims=True) / np.sum(count, 1, keepdims=True)
        variance = np.broadcast_to(variance, count.shape)
    else:
        variance = deviation / count
    return middle + total / count, np.sqrt(np.maximum(variance, 0)) + STD_FLOOR


def _masks(included: np.ndarray, attack: Attack) -> dict[str, np.ndarray]:
    """The models that the attack uses, as booleans `[M, n]` by side."""
    check(attack in _NEEDS, "attack", repr(attack), f"one of {', '.join(_NEEDS)}")
    both = {"IN": included, "OUT": ~included}
    return {side: both[side] for side in _NEEDS[attack]}


def _check_counts(counts: dict[str, np.ndarray], attack: Attack, fixed_variance: bool) -> None:
    check_counts(counts, 1 if fixed_variance or attack == "offset" else 2)


def _queries(
    target: Array, references: Array, included: Array, attack: Attack
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Target `[n, k]`, references `[M, n, k]` and masks `[M, n]`."""
    if np.ndim(target) not in (1, 2):
        raise InputError("target", f"has shape {np.shape(target)}", "give [n] or [n, k]")
    target = check_finite("target", target, np.ndim(target))
    references = check_finite("references", references, target.ndim + 1)
    if references.shape[1:] != target.shape:
        remedy = f"give [M, ...] of the shape of `target`, {target.shape}"
        raise InputError("references", f"has shape {references.shape}", remedy)
    masks = _masks(check_booleans("included", included, references.shape[:2]), attack)
    shape = (len(target), -1)
    return target.reshape(shape), references.reshape(len(references), *shape), masks
