r"""Matching of membership scores: the objective of LTU and of its paper.

The loss of membership model :math:`k` with scores :math:`s_k` on a batch of the forget set is

.. math::
    L_k = \frac1B \sum_i h\big((s_{k,(i)} - q_{k,i}) / \sigma_k\big),

with sorted scores :math:`s_{k,(i)}`, quantiles :math:`q_k` of the surrogate targets' scores, the
spread :math:`\sigma_k` of non-members' scores and the Huber loss :math:`h`. Up to the rounding at
zero this is the Wasserstein-1 distance between the two score distributions.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from ltu_jax.types import Key
from ltu_jax.unlearners.ltu.membership import (
    DIVERSE,
    Ensemble,
    MembershipSpec,
    all_scores,
    fit_ensemble,
    quantile_distance,
)
from ltu_jax.unlearners.ltu.objectives.base import Context, Forgetting, no_draw


def match_membership(
    specs: tuple[MembershipSpec, ...] = DIVERSE,
    support: int = 3,
    target: Literal["match", "push"] = "match",
) -> Forgetting:
    r"""Return the objective that changes the membership scores of the forget set.

    Args:
      specs: the K membership models.
      support: number of models that are the support of a step.
      target: `"match"` brings the scores to the distribution of the surrogate targets' scores.
        `"push"` minimises :math:`-\log(1 - m)` of the membership probability :math:`m`, as the
        paper reads. It has no optimum at a finite score, so scores can fall below those of a
        retrained model.

    Example:
      >>> match_membership().num_tasks
      6

    References:
      Huang, Foo & Liu, *Learning to Unlearn for Robust Machine Unlearning*, arXiv 2407.10494.
    """

    def init(key: Key, context: Context, size: int) -> Ensemble:
        outputs = context.retain, context.validation, context.targets
        return fit_ensemble(key, specs, *outputs, quantiles=size)

    def losses(state: Ensemble, draw: Any, logits, labels) -> jax.Array:
        del draw
        scores = all_scores(specs, state.heads, logits, labels)
        if target == "push":
            return jnp.mean(jax.nn.softplus(scores), axis=-1)
        return quantile_distance(scores, state.target, state.unit)

    return Forgetting(init, no_draw, losses, len(specs), support)
