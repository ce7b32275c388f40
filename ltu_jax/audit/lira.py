r"""LiRA: per example, a Gaussian of the signals of models that had it, and one of those without.

M reference models and n examples meet in arrays `[M, n]`; `included` is True where the model (row)
was trained on the example (column): IN, else OUT. The signal phi is `signals.margin`. A higher
score means "was trained on". Carlini et al., arXiv 2112.03570.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy

from ltu_jax.audit.references import check_booleans, check_counts, check_finite, check_pool, judges
from ltu_jax.errors import InputError

Array = np.ndarray
Attack = Literal["online", "offline", "offline_two_sided", "in_only", "offset", "global"]

STD_FLOOR = 1e-30  # of the released code: it only prevents a division by 0
# Which reference models an attack looks at.
_NEEDS = {
    "online": ("IN", "OUT"),
    "offline": ("OUT",),
    "offline_two_sided": ("OUT",),
    "in_only": ("IN",),
    "offset": ("IN", "OUT"),
    "global": (),
}


class _Normal(NamedTuple):
    mean: Array
    std: Array


def lira(
    target: Array,
    references: Array,
    included: Array,
    *,
    attack: Attack = "online",
    fixed_variance: bool = False,
    centre: Literal["mean", "median"] = "mean",
) -> Array:
    r"""LiRA's score `[n]` of one target model, from signals `[n]` and references `[M, n]`.

    Each example's IN and OUT references make a Gaussian each. With k augmented queries, `[n, k]`
    and `[M, n, k]`, the scores of the queries are averaged. The attacks:

    * `online`: $\ln N(\phi; in) - \ln N(\phi; out)$;
    * `offline`: $(\phi - \mu_{out}) / \sigma_{out}$, which ranks as the paper's one-sided test and
      does not saturate; `offline_two_sided`: $-\ln N(\phi; out)$, the much weaker released form;
    * `in_only`: $\ln N(\phi; in)$;
    * `offset`: $\phi$ less the middle between both centres; `global`: $\phi$ itself.

    `fixed_variance` takes one variance for all examples, that about their own centres. With
    `centre="median"` it is TensorFlow Privacy's `compute_score_lira`.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, or an example with too few references on
        a side that the attack needs: below 2, or below 1 where it takes no variance of its own.

    >>> references = np.array([[2.0, 0.0], [3.0, 1.0], [0.0, 3.0], [1.0, 4.0]])
    >>> included = np.array([[True, False], [True, False], [False, True], [False, True]])
    >>> lira([2.5, 0.5], references, included).round(6).tolist()
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


def lira_released(
    target: Array,
    references: Array,
    included: Array,
    *,
    attack: Literal["online", "offline_two_sided", "global"] = "online",
    fixed_variance: bool = False,
) -> Array:
    """The score `[n]` of LiRA's released code, for comparison with numbers printed by it.

    It differs from `lira` so: medians; of each side only as many references as the example with the
    fewest has, the first ones; `fixed_variance` is the spread over all examples together, which the
    online attack takes of the IN references for both sides; one reference is enough.

    Raises:
      InputError: shapes that do not fit, NaN or infinity, or an example without a reference on a
        side that the attack needs.
    """
    if attack not in ("online", "offline_two_sided", "global"):
        raise InputError(f"attack is {attack!r}; give online, offline_two_sided or global")
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


def leave_out(
    phi: Array,
    included: Array,
    groups: Array,
    *,
    attack: Attack = "online",
    fixed_variance: bool = False,
    halved: bool = False,
) -> Array:
    """`lira`'s scores `[M, n]` of every model of a pool, each judged by all *other* groups.

    With plain training this is LiRA. Where `included` means "trained on and then unlearned", and
    all others were never seen, it is U-LiRA (Hayes et al., arXiv 2403.01218).

    Args:
      phi: signals `[M, n]`.
      included: `[M, n]` booleans.
      groups: `[M]` labels. Models with a common seed are no independent references of each other
        and share a label; other models have labels of their own.
      attack: as for `lira`.
      fixed_variance: as for `lira`.
      halved: judge only within each half of the groups, as `per_example.worst_auc` needs it to
        select examples.

    Raises:
      InputError: as `lira`, for the references that are left without a group.
    """
    phi, included = check_pool("phi", phi, included)
    index, judging = judges(groups, len(phi), halved=halved)
    masks = _masks(included, attack)
    _check_counts({side: judging @ mask for side, mask in masks.items()}, attack, fixed_variance)
    sides = {
        side: _Normal(*(part[index] for part in _judged(phi, mask, judging, fixed_variance)))
        for side, mask in masks.items()
    }
    return _compare(phi, sides, attack)


def _compare(phi: Array, sides: dict[str, _Normal], attack: Attack) -> Array:
    if attack == "global":
        return phi
    if attack == "offset":
        return phi - (sides["IN"].mean + sides["OUT"].mean) / 2
    if attack == "offline":
        return (phi - sides["OUT"].mean) / sides["OUT"].std
    signs = {"IN": 1, "OUT": -1}
    return sum(signs[side] * scipy.stats.norm.logpdf(phi, *sides[side]) for side in sides)


def _normal(references: Array, mask: Array, fixed_variance: bool, centre: str) -> _Normal:
    """Centre and deviation `[n, k]` of the masked references `[M, n, k]` of each example."""
    if centre not in ("mean", "median"):
        raise InputError(f"centre is {centre!r}; give mean or median")
    values = np.where(mask[..., None], references, np.nan)
    middle = np.nanmean(values, axis=0) if centre == "mean" else np.nanmedian(values, axis=0)
    std = np.nanstd(values - middle) if fixed_variance else np.nanstd(values, axis=0)
    return _Normal(middle, std + STD_FLOOR)


def _judged(phi: Array, mask: Array, judging: Array, fixed_variance: bool) -> tuple[Array, Array]:
    """Mean and deviation `[G, n]` over the masked models that judge each group."""
    # Squares cancel the less in their sums, the nearer the values are to 0.
    middle = np.sum(phi * mask, axis=0) / np.maximum(np.sum(mask, axis=0), 1)
    residual = (phi - middle) * mask
    count, total, square = judging @ mask, judging @ residual, judging @ residual**2
    deviation = square - total**2 / count
    if fixed_variance:
        variance = np.sum(deviation, 1, keepdims=True) / np.sum(count, 1, keepdims=True)
        variance = np.broadcast_to(variance, count.shape)
    else:
        variance = deviation / count
    return middle + total / count, np.sqrt(np.maximum(variance, 0)) + STD_FLOOR


def _masks(included: Array, attack: Attack) -> dict[str, Array]:
    """The models that the attack looks at, as booleans `[M, n]` by side."""
    if attack not in _NEEDS:
        raise InputError(f"attack is {attack!r}; give {', '.join(_NEEDS)}")
    both = {"IN": included, "OUT": ~included}
    return {side: both[side] for side in _NEEDS[attack]}


def _check_counts(counts: dict[str, Array], attack: Attack, fixed_variance: bool) -> None:
    check_counts(counts, 1 if fixed_variance or attack == "offset" else 2)


def _queries(
    target: Array, references: Array, included: Array, attack: Attack
) -> tuple[Array, Array, dict[str, Array]]:
    """Target `[n, k]`, references `[M, n, k]` and masks `[M, n]`."""
    if np.ndim(target) not in (1, 2):
        raise InputError(f"target has shape {np.shape(target)}; give [n], or [n, k] for k queries")
    target = check_finite("target", target, np.ndim(target))
    references = check_finite("references", references, target.ndim + 1)
    if references.shape[1:] != target.shape:
        raise InputError(
            f"references has shape {references.shape}; give [M] models of target's {target.shape}"
        )
    masks = _masks(check_booleans("included", included, references.shape[:2]), attack)
    shape = (len(target), -1)
    return target.reshape(shape), references.reshape(len(references), *shape), masks
