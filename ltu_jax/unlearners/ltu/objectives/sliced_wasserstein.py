r"""Membership models without number: random directions through all that outputs show.

A fitted MI model compares *one* score of the forget set with that of held-out examples, and who
learns from the outputs themselves (`audit.attacks.supervised`) finds what none of the models looks
at. Two distributions are the same if their projections onto every direction are (Cramer & Wold), so
here the K models of a step are directions drawn anew, and each asks what a matched MI model asks:
that the scores of the forget set be distributed as the stand-ins'. Their mean loss is the sliced
Wasserstein-1 distance (Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3) of the two, rounded at
zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.types import Array, Key
from ltu_jax.unlearners.ltu import membership as mi

LARGEST = 10  # how many log-probabilities are kept of each kind
MOST_STAND_INS = 2048  # of which quantiles are taken in every step
LEAST_LOG_P = -20.0  # below it a log-probability says nothing and would rule its direction


class Joint(NamedTuple):
    """What the forget set's outputs should be distributed as.

    Attributes:
      outputs: `[M, F]` standardised `outputs` of stand-ins under the original.
      mean: `[F]` what was subtracted.
      std: `[F]` what divided then.
      effective: how many different models the directions of a step amount to.
    """

    outputs: jax.Array
    mean: jax.Array
    std: jax.Array
    effective: jax.Array


class Slices(NamedTuple):
    """The MI models of one step.

    Attributes:
      directions: `[F, K]`, of length 1.
      wanted: `[K, B]` quantiles of the stand-ins along them, one an example of an audit batch.
    """

    directions: jax.Array
    wanted: jax.Array


def outputs(logits: Array, labels: Array) -> jax.Array:
    """Return what a direction goes through, `[B, F]`.

    Log-odds, hinge, entropy, the log-probabilities with the label's own first, and in descending
    order: what the fitted MI models look at, and what `audit.attacks.supervised` learns from.
    """
    log_p = jnp.maximum(jax.nn.log_softmax(logits), LEAST_LOG_P)
    return jnp.concatenate(
        [
            mi.log_odds(logits, labels),
            mi.hinge(logits, labels),
            mi.entropy(logits, labels),
            mi.true_first(log_p, labels)[:, :LARGEST],
            jax.lax.top_k(log_p, min(LARGEST, logits.shape[-1]))[0],
        ],
        axis=-1,
    )


def aim(key: Key, logits: Array, labels: Array, count: int) -> Joint:
    """Return what the forget set should come to share with its stand-ins.

    Args:
      key: of the directions by which `effective` is told.
      logits: `[M, C]` of the stand-ins under the original, see `stand_ins.stand_ins`: class by
        class and by rank, so that every n-th of them stand for all.
      labels: `[M]` theirs.
      count: how many directions a step has.
    """
    size = min(len(labels), MOST_STAND_INS)
    rows = ((np.arange(size) + 0.5) / size * len(labels)).astype(int)
    seen = outputs(jnp.asarray(logits)[rows], jnp.asarray(labels)[rows])
    mean, std = seen.mean(0), seen.std(0) + 1e-3
    standard = (seen - mean) / std
    effective = mi.effective_models((standard @ directions(key, seen.shape[1], count)).T)
    return Joint(standard, mean, std, effective)


def directions(key: Key, width: int, count: int) -> jax.Array:
    """Return directions of length 1, uniform on the sphere, `[width, count]`."""
    normal = jax.random.normal(key, (width, count))
    return normal / jnp.linalg.norm(normal, axis=0)


def slices(key: Key, joint: Joint, count: int, size: int) -> Slices:
    """Return `count` directions, drawn anew, for an audit batch of `size` examples."""
    along = directions(key, joint.outputs.shape[1], count)
    return Slices(along, mi.mid_quantiles((joint.outputs @ along).T, size))


def joint_losses(joint: Joint, of: Slices, logits: Array, labels: Array) -> jax.Array:
    """Return the distance `[K]` along each direction of an audit batch from the stand-ins.

    Args:
      joint: see `Joint`.
      of: the step's directions.
      logits: `[B, C]` of the audit batch.
      labels: `[B]`.
    """
    seen = (outputs(logits, labels) - joint.mean) / joint.std
    return mi.quantile_distance((seen @ of.directions).T, of.wanted, np.ones(len(of.wanted)))
