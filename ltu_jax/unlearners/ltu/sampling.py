"""What an LTU step looks at: a support batch with random labels and N disjoint query sets.

Query sets differ in how they are drawn from the accessible retain set, which is what opens the gap
between the tasks of meta-tune and meta-test (arXiv 2407.10494, section 3.1). Every kind is a row
of log-weights over the examples; drawing without replacement is Gumbel-top-k on such a row. Of more
than `CANDIDATES` examples, a step looks at so many, drawn uniformly.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.training.sampling_order import rows_at
from ltu_jax.types import Array, Key

QueryKind = Literal["uniform", "class", "hard", "cluster"]
# Log-weight of an example that is drawn only when all others are used up; small enough that float32
# still tells Gumbel noise on top of it apart, so that such examples, too, come at random.
NEVER = -1e3
# Examples among which a step's query sets are drawn. Of a larger set, so many are picked at random
# first, that a step costs the same however large the set is.
CANDIDATES = 2**14


def random_labels(key: Key, labels: Array, allowed: Array) -> jax.Array:
    """Return `[B]` labels drawn uniformly from the allowed classes, never the true one.

    Where the true class is the only one allowed, the others serve.

    Args:
      key: of the draw.
      labels: `[B]` true labels.
      allowed: `[C]` booleans; a class that is being forgotten as a whole is not allowed.
    """
    is_true = jax.nn.one_hot(labels, len(allowed), dtype=bool)
    return jax.random.categorical(
        key, jnp.where(is_true, 2 * NEVER, jnp.where(allowed, 0.0, NEVER))
    )


def check_query_sampling(kinds: tuple[str, ...]) -> None:
    """Raise `InputError` unless every kind is known and there is at least one."""
    unknown = [kind for kind in kinds if kind not in get_args(QueryKind)]
    if unknown or not kinds:
        raise InputError(
            f"query_sampling is {kinds!r}; give one or more of {', '.join(get_args(QueryKind))}"
        )


class QueryPool(NamedTuple):
    """What query sampling knows of the accessible retain set.

    Attributes:
      labels: `[n]` classes.
      losses: `[n]` cross-entropy under the original model.
      clusters: `[n]` indices of clusters in the original model's output space.
    """

    labels: jax.Array
    losses: jax.Array
    clusters: jax.Array


def log_weights(key: Key, kind: QueryKind, pool: QueryPool, num_classes: int) -> jax.Array:
    """Return the log-weights `[n]` from which one query set of this kind is drawn.

    Args:
      key: chooses the classes or the cluster of this query set.
      kind: `"uniform"`: all alike. `"class"`: a random half of the classes only. `"hard"`: in
        proportion to the original model's loss. `"cluster"`: one cluster of its outputs only.
      pool: see `QueryPool`.
      num_classes: C.
    """
    if kind == "class":
        chosen = jax.random.permutation(key, num_classes) < (num_classes + 1) // 2
        return jnp.where(chosen[pool.labels], 0.0, NEVER)
    if kind == "hard":
        return jnp.log(pool.losses + 1e-3)
    if kind == "cluster":
        seed = jax.random.randint(key, (), 0, len(pool.clusters))
        return jnp.where(pool.clusters == pool.clusters[seed], 0.0, NEVER)
    return jnp.zeros(len(pool.labels))


def draw_queries(
    key: Key, kinds: tuple[QueryKind, ...], pool: QueryPool, num_classes: int, size: int
) -> jax.Array:
    """Return `[N, size]` row indices into the accessible set, all different: N disjoint query sets.

    Args:
      key: of the draw.
      kinds: how each of the N query sets is drawn.
      pool: see `QueryPool`; holds at least `N * size` examples.
      num_classes: C.
      size: examples in each query set.
    """
    candidates = min(max(CANDIDATES, 8 * len(kinds) * size), len(pool.labels))
    rows_of = jnp.arange(candidates)
    if candidates < len(pool.labels):
        key, pick_key = jax.random.split(key)
        rows_of = rows_at(pick_key, rows_of, len(pool.labels))
        pool = jax.tree.map(lambda x: x[rows_of], pool)
    free = jnp.ones(candidates, bool)
    sets = []
    for kind, kind_key in zip(kinds, jax.random.split(key, len(kinds)), strict=True):
        weight_key, draw_key = jax.random.split(kind_key)
        weights = log_weights(weight_key, kind, pool, num_classes)
        keyed = weights + jax.random.gumbel(draw_key, weights.shape)
        rows = jax.lax.top_k(jnp.where(free, keyed, -jnp.inf), size)[1]
        free = free.at[rows].set(False)
        sets.append(rows)
    return rows_of[jnp.stack(sets)]


def cluster_outputs(logits: Array, num_clusters: int, seed: int) -> np.ndarray:
    """Return the k-means cluster `[n]` of every row of `logits` (`[n, C]`), on the host."""
    from sklearn.cluster import KMeans

    num_clusters = min(num_clusters, len(logits))
    return KMeans(num_clusters, n_init=4, random_state=seed).fit_predict(np.asarray(logits))
