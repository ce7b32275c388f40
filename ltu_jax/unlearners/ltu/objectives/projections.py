r"""Sliced-Wasserstein matching of the output distribution along random projections.

A membership model compares one score of the forget set with that of its targets. An attack on the
full outputs (`audit.supervised_auc`) can still separate the two. Two distributions are equal if
all their one-dimensional projections are (Cramer & Wold). With features :math:`x_i` of the forget
set, :math:`y_j` of the surrogate targets and a random unit vector :math:`u_k`, the loss is

.. math::
    L_k = W_1\big(\{\langle u_k, x_i\rangle\}_i, \{\langle u_k, y_j\rangle\}_j\big),

rounded at zero by a Huber loss. The mean over :math:`k` is the sliced Wasserstein-1 distance.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.types import Array, Key
from ltu_jax.unlearners.ltu.membership import (
    effective_models,
    entropy,
    hinge,
    labelled_outputs,
    log_odds,
    mid_quantiles,
    quantile_distance,
    read_outputs,
    sorted_outputs,
)
from ltu_jax.unlearners.ltu.objectives.base import Context, Forgetting

NUM_LARGEST = 10  # log-probabilities kept, in each of the two orders
MAX_TARGETS = 2048  # targets whose quantiles are taken in every step
# Clip here: smaller log-probabilities carry no information and dominate the projection.
MIN_LOG_PROBABILITY = -20.0


class OutputTargets(NamedTuple):
    """The distribution that the forget set's outputs should have.

    Attributes:
      features: `[M, F]` standardised `output_features` of the surrogate targets.
      mean: `[F]` mean that was subtracted.
      std: `[F]` standard deviation that divided.
      effective: effective number of different projections among those of a step.
    """

    features: jax.Array
    mean: jax.Array
    std: jax.Array
    effective: jax.Array


class Projections(NamedTuple):
    """The random projections of one step.

    Attributes:
      directions: `[F, K]` unit vectors.
      quantiles: `[K, B]` quantiles of the projected targets, one for each example of a batch.
    """

    directions: jax.Array
    quantiles: jax.Array


def sliced_wasserstein(projections: int = 64) -> Forgetting:
    """Return the objective that matches the output distribution along random projections.

    Args:
      projections: number K of random projections of a step; half of them are its support.

    Example:
      >>> sliced_wasserstein(64).num_support
      32

    References:
      Bonneel et al., *Sliced and Radon Wasserstein barycenters of measures*, JMIV 2015,
      doi 10.1007/s10851-014-0506-3.
    """

    def init(key: Key, context: Context, size: int) -> OutputTargets:
        del size
        return output_targets(key, *context.targets, projections)

    def sample(key: Key, state: OutputTargets, rows: jax.Array) -> Projections:
        return draw_projections(key, state, projections, len(rows))

    def losses(state: OutputTargets, draw: Projections, logits, labels) -> jax.Array:
        return projected_distances(state, draw, logits, labels)

    return Forgetting(init, sample, losses, projections, projections // 2)


def output_features(logits: Array, labels: Array) -> jax.Array:
    """Return the features that are projected, `[B, F]`.

    They are log-odds, hinge, entropy, log-probabilities with the label's first, and sorted
    log-probabilities: the inputs of the membership models and of `audit.supervised_auc`.
    """
    outputs = read_outputs(logits, labels, NUM_LARGEST)
    ordered = [labelled_outputs(outputs, NUM_LARGEST), sorted_outputs(outputs, NUM_LARGEST)]
    features = [
        log_odds(outputs),
        hinge(outputs),
        entropy(outputs),
        *(jnp.maximum(log_p, MIN_LOG_PROBABILITY) for log_p in ordered),
    ]
    return jnp.concatenate(features).T


def output_targets(key: Key, logits: Array, labels: Array, count: int) -> OutputTargets:
    """Return standardised features of the surrogate targets.

    Args:
      key: PRNG key of the projections by which `effective` is computed.
      logits: `[M, C]` surrogate targets, in the order of `surrogate_targets`: sorted by class and
        rank, so that every n-th of them are a fair sample.
      labels: `[M]` their labels.
      count: number of projections of a step.
    """
    size = min(len(labels), MAX_TARGETS)
    rows = ((np.arange(size) + 0.5) / size * len(labels)).astype(int)
    features = output_features(jnp.asarray(logits)[rows], jnp.asarray(labels)[rows])
    mean, std = features.mean(0), features.std(0) + 1e-3
    standard = (features - mean) / std
    effective = effective_models((standard @ unit_vectors(key, features.shape[1], count)).T)
    return OutputTargets(standard, mean, std, effective)


def unit_vectors(key: Key, width: int, count: int) -> jax.Array:
    """Return vectors of length 1, uniform on the sphere, `[width, count]`."""
    normal = jax.random.normal(key, (width, count))
    return normal / jnp.linalg.norm(normal, axis=0)


def draw_projections(key: Key, targets: OutputTargets, count: int, size: int) -> Projections:
    """Return `count` random projections for a batch of `size` examples."""
    directions = unit_vectors(key, targets.features.shape[1], count)
    return Projections(directions, mid_quantiles((targets.features @ directions).T, size))


def projected_distances(
    targets: OutputTargets, projections: Projections, logits: Array, labels: Array
) -> jax.Array:
    """Return the distance `[K]` of a batch from the targets along each projection."""
    features = (output_features(logits, labels) - targets.mean) / targets.std
    scores = (features @ projections.directions).T
    return quantile_distance(scores, projections.quantiles, np.ones(len(projections.quantiles)))
