r"""Membership-inference (MI) models: diverse, differentiable, fitted without the forget set.

An MI model maps the logits of an example to the probability that the example was trained on. LTU
draws its forgetting tasks from K of them (arXiv 2407.10494, section 3.2). They differ in input
(`FEATURES`), architecture (logistic or a small MLP) and the share of the data that they are fitted
on. Members are accessible retain examples, non-members are validation examples; no model is fitted
on the forget set.

A *score* is the logit of membership: above 0 the model predicts "member".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import Array, Key, PyTree

HUBER_DELTA = 0.1  # below this distance the matching loss is quadratic, above it linear
NUM_LARGEST = 5  # sorted log-probabilities that the features `sorted` and `labelled` keep


def log_odds(logits: Array, labels: Array) -> jax.Array:
    """Return ln p_y - ln(1 - p_y), `[B, 1]`: LiRA's phi, the confidence on an unbounded scale."""
    true, others = _true_and_others(logits, labels)
    return true - jax.nn.logsumexp(others, axis=-1, keepdims=True)


def entropy(logits: Array, labels: Array) -> jax.Array:
    """Return the entropy of the prediction in nats, `[B, 1]`; ignores the label."""
    del labels
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1, keepdims=True)


def modified_entropy(logits: Array, labels: Array) -> jax.Array:
    """Return the corrected modified entropy of Song & Mittal (2003.10595), `[B, 1]`."""
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    log_rest = jnp.log1p(-jnp.minimum(p, 1 - 1e-6))
    label = jax.nn.one_hot(labels, logits.shape[-1])
    terms = jnp.where(label > 0, (1 - p) * log_p, p * log_rest)
    return -jnp.sum(terms, axis=-1, keepdims=True)


def hinge(logits: Array, labels: Array) -> jax.Array:
    """Return the true logit less the largest other one, `[B, 1]`."""
    true, others = _true_and_others(logits, labels)
    return true - others.max(axis=-1, keepdims=True)


def sorted_outputs(logits: Array, labels: Array) -> jax.Array:
    """Return the largest log-probabilities, sorted, `[B, min(C, 5)]`; ignores the label."""
    del labels
    return jax.lax.top_k(jax.nn.log_softmax(logits), min(NUM_LARGEST, logits.shape[-1]))[0]


def labelled_outputs(logits: Array, labels: Array) -> jax.Array:
    """Return log-probabilities, the true class first and the others sorted, `[B, min(C, 5)]`."""
    return true_first(jax.nn.log_softmax(logits), labels)[:, :NUM_LARGEST]


def true_first(outputs: Array, labels: Array) -> jax.Array:
    """Return outputs `[B, C]` with the label's own first and the others in descending order."""
    true, others = _true_and_others(outputs, labels)
    return jnp.concatenate([true, jnp.sort(others, axis=-1)[:, :0:-1]], axis=-1)


def _true_and_others(outputs: Array, labels: Array) -> tuple[jax.Array, jax.Array]:
    """Return the true class's output `[B, 1]`, and all `[B, C]` with it at minus infinity."""
    is_label = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    true = jnp.take_along_axis(outputs, labels[:, None], axis=-1)
    return true, jnp.where(is_label, -jnp.inf, outputs)


FEATURES: dict[str, Callable[[Array, Array], jax.Array]] = {
    "log_odds": log_odds,
    "entropy": entropy,
    "modified_entropy": modified_entropy,
    "hinge": hinge,
    "sorted": sorted_outputs,
    "labelled": labelled_outputs,
}


class MembershipSpec(NamedTuple):
    """The input and the architecture of an MI model.

    Attributes:
      feature: a name in `FEATURES`.
      hidden: width of the hidden layer; 0 is logistic regression.
      share: share of the members and non-members that this model is fitted on.
    """

    feature: str
    hidden: int = 0
    share: float = 0.7


DIVERSE: tuple[MembershipSpec, ...] = (
    MembershipSpec("log_odds"),
    MembershipSpec("entropy", hidden=16),
    MembershipSpec("modified_entropy", share=0.5),
    MembershipSpec("hinge", hidden=16, share=0.5),
    MembershipSpec("sorted", hidden=32),
    MembershipSpec("labelled", hidden=32, share=0.5),
)


class Head(NamedTuple):
    """The fitted part of an MI model: standardisation, then a linear layer or a small MLP."""

    mean: jax.Array
    std: jax.Array
    weights: dict[str, jax.Array]


class Ensemble(NamedTuple):
    """K fitted MI models and their target scores.

    Attributes:
      heads: K fitted heads.
      target: `[K, B]` quantiles, in ascending order, of the scores of the surrogate targets.
      unit: `[K]` standard deviation of the scores of non-members, the unit of the matching loss.
      effective: effective number of different models, see `effective_models`.
    """

    heads: tuple[Head, ...]
    target: jax.Array
    unit: jax.Array
    effective: jax.Array


def score(spec: MembershipSpec, head: Head, logits: Array, labels: Array) -> jax.Array:
    """Return membership scores `[B]` of a batch of logits `[B, C]`."""
    features = (FEATURES[spec.feature](logits, labels) - head.mean) / head.std
    return _head_score(head.weights, features)


def fit(
    key: Key,
    spec: MembershipSpec,
    members: tuple[Array, Array],
    nonmembers: tuple[Array, Array],
    *,
    steps: int = 300,
    learning_rate: float = 0.05,
    l2: float = 1e-3,
) -> Head:
    """Fit one MI model by full-batch Adam on the balanced logistic loss.

    Args:
      key: PRNG key of the model's share of the data and its initial weights.
      spec: see `MembershipSpec`.
      members: logits `[M, C]` and labels `[M]` of examples that were trained on.
      nonmembers: logits `[N, C]` and labels `[N]` of examples that were not.
      steps: Adam steps.
      learning_rate: Adam's learning rate.
      l2: weight of the squared norm of the weights.
    """
    share_key, weight_key = jax.random.split(key)
    features = jnp.concatenate([FEATURES[spec.feature](*both) for both in (members, nonmembers)])
    mean, std = features.mean(0), features.std(0) + 1e-6
    features = (features - mean) / std
    is_member = jnp.arange(len(features)) < len(members[1])
    chosen = jax.random.uniform(share_key, is_member.shape) < spec.share
    # Members and non-members have the same total weight.
    balance = jnp.where(is_member, 1 / len(members[1]), 1 / len(nonmembers[1])) * chosen

    def loss_fn(weights):
        scores = _head_score(weights, features)
        losses = jax.nn.softplus(jnp.where(is_member, -scores, scores))
        return jnp.sum(balance * losses) + l2 * optax.tree.norm(weights, squared=True)

    tx = optax.adam(learning_rate)

    def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
        weights, opt_state = carry
        updates, opt_state = tx.update(jax.grad(loss_fn)(weights), opt_state)
        return (optax.apply_updates(weights, updates), opt_state), None

    weights = init_head(weight_key, features.shape[-1], spec.hidden)
    (weights, _), _ = jax.lax.scan(step, (weights, tx.init(weights)), length=steps)
    return Head(mean, std, weights)


@partial(jax.jit, static_argnames=("specs", "quantiles"))
def fit_ensemble(
    key: Key,
    specs: tuple[MembershipSpec, ...],
    members: tuple[Array, Array],
    nonmembers: tuple[Array, Array],
    targets: tuple[Array, Array],
    *,
    quantiles: int,
) -> Ensemble:
    """Fit one MI model per spec and score the surrogate targets.

    Args:
      key: PRNG key, split over the models.
      specs: the K MI models.
      members: logits and labels of accessible retain examples.
      nonmembers: logits and labels of validation examples.
      targets: logits `[M, C]` and labels `[M]` of surrogate targets, see `objectives.reference`.
      quantiles: number of quantiles of their scores, one for each example of an audit batch.
    """
    keys = jax.random.split(key, len(specs))
    heads = tuple(fit(k, spec, members, nonmembers) for k, spec in zip(keys, specs, strict=True))
    target, usual = (all_scores(specs, heads, *both) for both in (targets, nonmembers))
    unit = jnp.std(usual, axis=-1) + 1e-6
    return Ensemble(heads, mid_quantiles(target, quantiles), unit, effective_models(usual))


def effective_models(scores: Array) -> jax.Array:
    """Return the effective number of different models by their scores `[K, N]`: between 1 and K.

    It is the participation ratio of their correlation matrix: K if no two are correlated, 1 if all
    are proportional.
    """
    centred = scores - scores.mean(axis=-1, keepdims=True)
    unit = centred / (jnp.linalg.norm(centred, axis=-1, keepdims=True) + 1e-12)
    return len(scores) ** 2 / jnp.sum((unit @ unit.T) ** 2)


def mid_quantiles(values: Array, count: int) -> jax.Array:
    """Return `count` quantiles of every row of `values` (`[K, N]`), evenly spaced, `[K, count]`."""
    levels = (jnp.arange(count) + 0.5) / count
    return jnp.quantile(values, levels, axis=-1).T


def all_scores(
    specs: tuple[MembershipSpec, ...], heads: tuple[Head, ...], logits: Array, labels: Array
) -> jax.Array:
    """Return every MI model's scores of a batch, `[K, B]`."""
    return jnp.stack(
        [score(spec, head, logits, labels) for spec, head in zip(specs, heads, strict=True)]
    )


def quantile_distance(scores: Array, quantiles: Array, unit: Array) -> jax.Array:
    """Return the distance `[K]` of each row of `scores` from `quantiles` (both `[K, B]`)."""
    return huber_distance(jnp.sort(scores, axis=-1), quantiles, unit)


def huber_distance(values: Array, targets: Array, unit: Array) -> jax.Array:
    """Return the mean Huber loss `[K]` of `values - targets` (`[K, B]`), in multiples of `unit`."""
    distance = (values - targets) / unit[:, None]
    return jnp.mean(optax.losses.huber_loss(distance, delta=HUBER_DELTA), axis=-1) / HUBER_DELTA


def init_head(key: Key, width: int, hidden: int) -> dict[str, jax.Array]:
    """Return initial weights of a linear layer or of an MLP with one hidden layer."""
    if not hidden:
        return {"out": jnp.zeros(width), "bias": jnp.zeros(())}
    in_key, out_key = jax.random.split(key)
    return {
        "in": jax.random.normal(in_key, (width, hidden)) / jnp.sqrt(width),
        "in_bias": jnp.zeros(hidden),
        "out": jax.random.normal(out_key, (hidden,)) / jnp.sqrt(hidden),
        "bias": jnp.zeros(()),
    }


def _head_score(weights: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    if "in" in weights:
        features = jnp.tanh(features @ weights["in"] + weights["in_bias"])
    return features @ weights["out"] + weights["bias"]
