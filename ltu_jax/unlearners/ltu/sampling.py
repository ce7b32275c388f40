"""Random labels of the support batch, and N disjoint query sets.

Query sets differ in how they are drawn from the accessible retain set. That opens the gap between
the tasks of meta-tune and meta-test (arXiv 2407.10494, section 3.1). Every sampling strategy is a
row of log-weights over the examples; a draw without replacement is Gumbel-top-k on such a row. From
more than `CANDIDATES` examples, a step first draws so many uniformly.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.training.sampling_order import rows_at
from ltu_jax.types import Array, Key

QuerySampling = Literal["uniform", "class", "hard", "cluster"]
# Log-weight of an example that is drawn only when all others are used up. It is small enough that
# float32 resolves Gumbel noise on top of it, so that such examples are drawn at random as well.
NEVER = -1e3
# Examples among which a step's query sets are drawn, so that the cost of a step does not depend on
# the size of the data set.
CANDIDATES = 2**14


def random_labels(key: Key, labels: Array, allowed: Array) -> jax.Array:
    """Return `[B]` labels drawn uniformly from the allowed classes, never the true one.

    Where the true class is the only allowed one, the others are used.

    Args:
      key: PRNG key.
      labels: `[B]` true labels.
      allowed: `[C]` booleans; a class that is forgotten as a whole is not allowed.
    """
    is_true = jax.nn.one_hot(labels, len(allowed), dtype=bool)
    return jax.random.categorical(
        key, jnp.where(is_true, 2 * NEVER, jnp.where(allowed, 0.0, NEVER))
    )


class QuerySource(NamedTuple):
    """The accessible retain set, as query sampling sees it.

    Attributes:
      labels: `[n]` classes.
      losses: `[n]` cross-entropy under the original model.
      clusters: `[n]` indices of clusters in the original model's output space; None unless the
        strategy `"cluster"` is used.
    """

    labels: Array
    losses: jax.Array
    clusters: jax.Array | None


def log_weights(
    key: Key, sampling: QuerySampling, source: QuerySource, num_classes: int
) -> jax.Array:
    """Return the log-weights `[n]` with which one query set is drawn.

    Args:
      key: PRNG key; chooses the classes or the cluster of this query set.
      sampling: `"uniform"`: equal weights. `"class"`: a random half of the classes. `"hard"`: in
        proportion to the original model's loss. `"cluster"`: one cluster of its outputs.
      source: see `QuerySource`.
      num_classes: C.
    """
    if sampling == "class":
        chosen = jax.random.permutation(key, num_classes) < (num_classes + 1) // 2
        return jnp.where(chosen[source.labels], 0.0, NEVER)
    if sampling == "hard":
        return jnp.log(source.losses + 1e-3)
    if sampling == "cluster":
        assert source.clusters is not None
        seed = jax.random.randint(key, (), 0, len(source.clusters))
        return jnp.where(source.clusters == source.clusters[seed], 0.0, NEVER)
    return jnp.zeros(len(source.labels))


def draw_queries(
    key: Key,
    samplings: tuple[QuerySampling, ...],
    source: QuerySource,
    num_classes: int,
    size: int,
) -> jax.Array:
    """Return `[N, size]` distinct rows of the accessible retain set: N disjoint query sets.

    Args:
      key: PRNG key.
      samplings: sampling strategy of each of the N query sets.
      source: see `QuerySource`; holds at least `N * size` examples.
      num_classes: C.
      size: examples in each query set.
    """
    candidates = min(max(CANDIDATES, 8 * len(samplings) * size), len(source.labels))
    rows_of = jnp.arange(candidates)
    if candidates < len(source.labels):
        key, candidate_key = jax.random.split(key)
        rows_of = rows_at(candidate_key, rows_of, len(source.labels))
        source = jax.tree.map(lambda x: x[rows_of], source)
    free = jnp.ones(candidates, bool)
    sets = []
    for sampling, own_key in zip(samplings, jax.random.split(key, len(samplings)), strict=True):
        weight_key, draw_key = jax.random.split(own_key)
        weights = log_weights(weight_key, sampling, source, num_classes)
        keyed = weights + jax.random.gumbel(draw_key, weights.shape)
        rows = jax.lax.top_k(jnp.where(free, keyed, -jnp.inf), size)[1]
        free = free.at[rows].set(False)
        sets.append(rows)
    return rows_of[jnp.stack(sets)]


def cluster_outputs(logits: Array, num_clusters: int, seed: int) -> np.ndarray:
    """Return the k-means cluster `[n]` of every row of `logits` (`[n, C]`), on the host."""
    from sklearn.cluster import KMeans

    num_clusters = min(num_clusters, len(logits))
    kmeans = KMeans(
        num_clusters,
        n_init=4,  # pyright: ignore[reportArgumentType]  # inferred from "auto"
        random_state=seed,
    )
    return kmeans.fit_predict(np.asarray(logits))
