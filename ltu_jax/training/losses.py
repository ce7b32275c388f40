"""Losses that several methods share, with one value per example."""

from __future__ import annotations

import jax
import optax

from ltu_jax.training.optimizers import is_fixed
from ltu_jax.types import Array


def cross_entropy(logits: jax.Array, labels: Array) -> jax.Array:
    """Return `[B]` cross-entropies of `logits` `[B, C]` to integer `labels` `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def distillation(logits: jax.Array, teacher: Array, temperature: float) -> jax.Array:
    r"""Return `[B]` values :math:`T^2\, KL(p_{teacher} \| p)`, both softened by T.

    The factor keeps the gradient's size as T grows (Hinton et al. 2015, arXiv 1503.02531).
    """
    kl = optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(logits / temperature), jax.nn.log_softmax(teacher / temperature)
    )
    return temperature**2 * kl


def distilled_cross_entropy(
    logits: jax.Array,
    labels: Array,
    teacher: Array | None,
    share: float,
    temperature: float,
) -> jax.Array:
    """Return `[B]` cross-entropies of which `share` is KL to the teacher's outputs instead."""
    if is_fixed(share) and not share:
        return cross_entropy(logits, labels)
    if teacher is None:
        raise TypeError("teacher: is None, but share is not 0")
    kl = distillation(logits, teacher, temperature)
    return (1 - share) * cross_entropy(logits, labels) + share * kl
