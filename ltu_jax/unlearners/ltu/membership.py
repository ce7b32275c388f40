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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.training.compilation import jit
from ltu_jax.types import Array, Key, PyTree

HUBER_DELTA = 0.1  # below this distance the matching loss is quadratic, above it linear
NUM_LARGEST = 5  # sorted log-probabilities that the features `sorted` and `labelled` keep


class Outputs(NamedTuple):
    """What the features read of a batch, computed once; examples are last, which compiles small.

    Attributes:
      is_label: `[C, B]` booleans, the true class.
      log_p: `[C, B]` log-probabilities.
      p: `[C, B]` probabilities.
      true: `[1, B]` log-probability of the true class.
      others: `[n, B]` the largest log-probabilities of the other classes, in descending order.
    """

    is_label: jax.Array
    log_p: jax.Array
    p: jax.Array
    true: jax.Array
    others: jax.Array


def read_outputs(logits: Array, labels: Array, count: int = NUM_LARGEST) -> Outputs:
    """Return `Outputs` of logits `[B, C]` with at most `count` of the other classes."""
    log_p = jax.nn.log_softmax(jnp.asarray(logits).T, axis=0)
    is_label = jnp.arange(len(log_p))[:, None] == labels
    keys = jax.lax.stop_gradient(jnp.where(is_label, -jnp.inf, log_p)).T
    order = jax.lax.top_k(keys, min(count, len(log_p) - 1))[1].T
    true = jnp.sum(jnp.where(is_label, log_p, 0), axis=0, keepdims=True)
    # Unlike that of a gather, the gradient of this sum needs no scatter.
    chosen = order[:, None] == jnp.arange(len(log_p))[:, None]
    others = jnp.sum(jnp.where(chosen, log_p, 0), axis=1)
    return Outputs(is_label, log_p, jnp.exp(log_p), true, others)


def log_odds(outputs: Outputs) -> jax.Array:
    """Return ln p_y - ln(1 - p_y), `[1, B]`: LiRA's phi, the confidence on an unbounded scale."""
    largest = jax.lax.stop_gradient(outputs.others[:1])
    rest = jnp.exp(jnp.where(outputs.is_label, -jnp.inf, outputs.log_p - largest))
    return outputs.true - largest - jnp.log(jnp.sum(rest, axis=0, keepdims=True))


def entropy(outputs: Outputs) -> jax.Array:
    """Return the entropy of the prediction in nats, `[1, B]`; ignores the label."""
    return -jnp.sum(outputs.p * outputs.log_p, axis=0, keepdims=True)


def modified_entropy(outputs: Outputs) -> jax.Array:
    """Return the corrected modified entropy of Song & Mittal (2003.10595), `[1, B]`."""
    log_rest = jnp.log1p(-jnp.minimum(outputs.p, 1 - 1e-6))
    terms = jnp.where(outputs.is_label, (1 - outputs.p) * outputs.log_p, outputs.p * log_rest)
    return -jnp.sum(terms, axis=0, keepdims=True)


def hinge(outputs: Outputs) -> jax.Array:
    """Return the true logit less the largest other one, `[1, B]`."""
    return outputs.true - outputs.others[:1]


def sorted_outputs(outputs: Outputs, count: int = NUM_LARGEST) -> jax.Array:
    """Return the largest log-probabilities, sorted, `[min(C, count), B]`; ignores the label."""
    rank = jnp.sum(outputs.others > outputs.true, axis=0)
    padded = jnp.pad(outputs.others, ((1, 1), (0, 0)))
    places = jnp.arange(min(count, len(outputs.log_p)))[:, None]
    before, after = padded[: len(places)], padded[1 : len(places) + 1]
    return jnp.where(places < rank, after, jnp.where(places == rank, outputs.true, before))


def labelled_outputs(outputs: Outputs, count: int = NUM_LARGEST) -> jax.Array:
    """Return log-probabilities, the label's first, others sorted, `[min(C, count), B]`."""
    return jnp.concatenate([outputs.true, outputs.others[: count - 1]])


FEATURES: dict[str, Callable[[Outputs], jax.Array]] = {
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


class Heads(NamedTuple):
    """The fitted parts of K MI models as one network: standardisation, an MLP and a linear part.

    Each model reads all W features, with weights of 0 where a feature is not its own. A model has
    either H hidden units, of which unused ones have weights of 0, or a linear part.

    Attributes:
      mean: `[W]` means of the features.
      std: `[W]` standard deviations of the features.
      hidden: `[K, H, W]` weights of the hidden units.
      hidden_bias: `[K, H]` their biases.
      out: `[K, H]` their output weights.
      linear: `[K, W]` weights of the linear parts.
      bias: `[K]` biases of the scores.
    """

    mean: jax.Array
    std: jax.Array
    hidden: jax.Array
    hidden_bias: jax.Array
    out: jax.Array
    linear: jax.Array
    bias: jax.Array


class Ensemble(NamedTuple):
    """K fitted MI models and their target scores.

    Attributes:
      heads: the K fitted heads.
      target: `[K, B]` quantiles, in ascending order, of the scores of the surrogate targets.
      unit: `[K]` standard deviation of the scores of non-members, the unit of the matching loss.
      effective: effective number of different models, see `effective_models`.
    """

    heads: Heads
    target: jax.Array
    unit: jax.Array
    effective: jax.Array


def all_features(specs: tuple[MembershipSpec, ...], logits: Array, labels: Array) -> jax.Array:
    """Return the features `[W, B]` that the models read, each once."""
    outputs = read_outputs(logits, labels)
    return jnp.concatenate([FEATURES[name](outputs) for name in _names(specs)])


def feature_names(specs: tuple[MembershipSpec, ...], num_classes: int) -> np.ndarray:
    """Return the name of each of the W rows of `all_features`."""
    largest, names = min(NUM_LARGEST, num_classes), _names(specs)
    return np.repeat(names, [largest if name in ("sorted", "labelled") else 1 for name in names])


def _names(specs: tuple[MembershipSpec, ...]) -> list[str]:
    return list(dict.fromkeys(spec.feature for spec in specs))


def all_scores(
    specs: tuple[MembershipSpec, ...], heads: Heads, logits: Array, labels: Array
) -> jax.Array:
    """Return every MI model's membership scores of a batch, `[K, B]`."""
    features = all_features(specs, logits, labels)
    return _scores(heads, (features - heads.mean[:, None]) / heads.std[:, None])


def _scores(heads: Heads, features: jax.Array) -> jax.Array:
    """Return the scores `[K, B]` of standardised features `[W, B]`."""
    hidden = jnp.tanh(heads.hidden @ features + heads.hidden_bias[..., None])
    linear = heads.linear @ features + heads.bias[:, None]
    return jnp.sum(hidden * heads.out[..., None], axis=1) + linear


def fit_heads(
    key: Key,
    specs: tuple[MembershipSpec, ...],
    members: tuple[Array, Array],
    nonmembers: tuple[Array, Array],
    *,
    num_members: Array | int | None = None,
    steps: int = 300,
    learning_rate: float = 0.05,
    l2: float = 1e-3,
) -> Heads:
    """Fit the MI models by full-batch Adam, each on its balanced logistic loss.

    Args:
      key: PRNG key of the models' shares of the data and their initial weights.
      specs: the K MI models.
      members: logits `[M, C]` and labels `[M]` of examples that were trained on.
      nonmembers: logits `[N, C]` and labels `[N]` of examples that were not.
      num_members: how many of the members count, the others are padding; None: all.
      steps: Adam steps.
      learning_rate: Adam's learning rate.
      l2: weight of the squared norm of the weights.
    """
    share_key, weight_key = jax.random.split(key)
    parts = [all_features(specs, *both) for both in (members, nonmembers)]
    features = jnp.concatenate(parts, axis=1)
    size, places = len(members[1]), jnp.arange(features.shape[1])
    true_size = jnp.asarray(size if num_members is None else num_members)
    counts = (places < true_size) | (places >= size)
    mean = jnp.mean(features, axis=1, where=counts)
    std = jnp.std(features, axis=1, where=counts) + 1e-6
    features = (features - mean[:, None]) / std[:, None]
    is_member = places < true_size
    shares = np.array([spec.share for spec in specs])[:, None]
    chosen = jax.random.uniform(share_key, (len(specs), len(is_member))) < shares
    # Members and non-members have the same total weight.
    balance = jnp.where(is_member, 1 / true_size, 1 / len(nonmembers[1])) * chosen * counts

    # The models share no weight, so the gradient of the sum is that of each.
    def loss_fn(weights: Heads) -> jax.Array:
        scores = _scores(weights, features)
        losses = jax.nn.softplus(jnp.where(is_member, -scores, scores))
        return jnp.sum(balance * losses) + l2 * optax.tree.norm(weights, squared=True)

    tx = optax.adam(learning_rate)

    def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
        weights, opt_state = carry
        grads = jax.tree.map(jnp.multiply, jax.grad(loss_fn)(weights), used)
        updates, opt_state = tx.update(grads, opt_state)
        return (optax.apply_updates(weights, updates), opt_state), None

    used = used_weights(specs, np.shape(members[0])[-1])
    weights = init_heads(weight_key, used)
    (weights, _), _ = jax.lax.scan(step, (weights, tx.init(weights)), length=steps)
    return weights._replace(mean=mean, std=std)


def used_weights(specs: tuple[MembershipSpec, ...], num_classes: int) -> Heads:
    """Return for every weight of `Heads` 1 where a model has it and 0 where not.

    `mean` and `std` are empty: they are not fitted.
    """
    names = feature_names(specs, num_classes)
    own = np.array([spec.feature for spec in specs])[:, None] == names
    sizes = np.array([spec.hidden for spec in specs])
    units = np.arange(sizes.max()) < sizes[:, None]
    masks = Heads(
        mean=jnp.zeros(0),
        std=jnp.zeros(0),
        hidden=own[:, None] & units[..., None],
        hidden_bias=units,
        out=units,
        linear=own & (sizes == 0)[:, None],
        bias=jnp.ones(len(specs)),
    )
    return jax.tree.map(lambda mask: jnp.asarray(mask, jnp.float32), masks)


def init_heads(key: Key, used: Heads) -> Heads:
    """Return initial weights: zeros for biases and linear parts, else normal, scaled by fan-in."""
    in_key, out_key = jax.random.split(key)
    return jax.tree.map(jnp.zeros_like, used)._replace(
        hidden=_normal(in_key, used.hidden), out=_normal(out_key, used.out)
    )


def _normal(key: Key, used: jax.Array) -> jax.Array:
    fan_in = jnp.maximum(used.sum(-1, keepdims=True), 1)
    return used * jax.random.normal(key, used.shape) / jnp.sqrt(fan_in)


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
      key: PRNG key of the fits.
      specs: the K MI models.
      members: logits and labels of accessible retain examples.
      nonmembers: logits and labels of validation examples.
      targets: logits `[M, C]` and labels `[M]` of surrogate targets, see `objectives.reference`.
      quantiles: number of quantiles of their scores, one for each example of an audit batch.
    """
    fit = jit(_fit_padded, small=True, static_argnames=("specs", "quantiles"))
    sizes = len(members[1]), len(targets[1])
    return fit(key, specs, _pad(members), nonmembers, _pad(targets), sizes, quantiles=quantiles)


def _fit_padded(
    key: Key,
    specs: tuple[MembershipSpec, ...],
    members: tuple[Array, Array],
    nonmembers: tuple[Array, Array],
    targets: tuple[Array, Array],
    sizes: tuple[Array, Array],
    *,
    quantiles: int,
) -> Ensemble:
    """Return `fit_ensemble` of the first of the members and targets; `sizes` says how many."""
    heads = fit_heads(key, specs, members, nonmembers, num_members=sizes[0])
    target, usual = (all_scores(specs, heads, *both) for both in (targets, nonmembers))
    unit = jnp.std(usual, axis=-1) + 1e-6
    target = mid_quantiles(target, quantiles, sizes[1])
    return Ensemble(heads, target, unit, effective_models(usual))


def _pad(examples: tuple[Array, Array]) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples and zeros, up to a power of two: requests then share a program."""
    logits, labels = map(np.asarray, examples)
    missing = max(256, 1 << (len(labels) - 1).bit_length()) - len(labels)
    return np.pad(logits, ((0, missing), (0, 0))), np.pad(labels, (0, missing))


def effective_models(scores: Array) -> jax.Array:
    """Return the effective number of different models by their scores `[K, N]`: between 1 and K.

    It is the participation ratio of their correlation matrix: K if no two are correlated, 1 if all
    are proportional.
    """
    centred = scores - scores.mean(axis=-1, keepdims=True)
    unit = centred / (jnp.linalg.norm(centred, axis=-1, keepdims=True) + 1e-12)
    return len(scores) ** 2 / jnp.sum((unit @ unit.T) ** 2)


def mid_quantiles(values: Array, count: int, size: Array | None = None) -> jax.Array:
    """Return `count` quantiles of every row of `values` (`[K, N]`), evenly spaced, `[K, count]`.

    Only the first `size` values of a row count; None: all.
    """
    last = jnp.asarray(values.shape[-1] if size is None else size) - 1
    kept = jnp.sort(jnp.where(jnp.arange(values.shape[-1]) <= last, values, jnp.inf), axis=-1)
    place = (jnp.arange(count) + 0.5) / count * last
    below = jnp.floor(place).astype(int)
    low, high = kept[:, below], kept[:, jnp.minimum(below + 1, last)]
    return low + (place - below) * (high - low)


def quantile_distance(scores: Array, quantiles: Array, unit: Array) -> jax.Array:
    """Return the distance `[K]` of each sorted row of `scores` from `quantiles` (both `[K, B]`)."""
    return huber_distance(scores, _at_ranks(quantiles, scores), unit)


def _at_ranks(quantiles: Array, scores: Array) -> jax.Array:
    """Return `quantiles` in the order of `scores`, so that gradients need no sort."""
    keys = jax.lax.stop_gradient(jnp.asarray(scores))
    places = jnp.broadcast_to(jnp.arange(keys.shape[-1]), keys.shape)
    _, order = jax.lax.sort((keys, places), num_keys=1)
    return jax.lax.sort((order, jnp.asarray(quantiles)), num_keys=1)[1]


def huber_distance(values: Array, targets: Array, unit: Array) -> jax.Array:
    """Return the mean Huber loss `[K]` of `values - targets` (`[K, B]`), in multiples of `unit`."""
    distance = (values - targets) / unit[:, None]
    return jnp.mean(optax.losses.huber_loss(distance, delta=HUBER_DELTA), axis=-1) / HUBER_DELTA
