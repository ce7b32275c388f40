"""Random labels and query sets: disjoint, and drawn by their sampling strategy."""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ltu_jax.unlearners.ltu import sampling
from ltu_jax.unlearners.ltu.sampling import (
    QuerySampling,
    QuerySource,
    cluster_outputs,
    draw_queries,
    random_labels,
)

KEY = jax.random.key(0)
SAMPLINGS = get_args(QuerySampling)
CLASSES = 6


def source(size, seed=0):
    rng = np.random.default_rng(seed)
    return QuerySource(
        labels=jnp.asarray(rng.integers(CLASSES, size=size)),
        losses=jnp.asarray(rng.exponential(size=size), jnp.float32),
        clusters=jnp.asarray(rng.integers(3, size=size)),
    )


draw = jax.jit(draw_queries, static_argnums=(1, 3, 4))


@partial(jax.jit, static_argnums=(1, 3, 4))
def draw_often(keys, samplings, source, num_classes, size):
    return jax.vmap(lambda key: draw_queries(key, samplings, source, num_classes, size))(keys)


# Few shapes, for every one is compiled; many keys and pools.
@settings(max_examples=40)
@given(
    samplings=st.sampled_from([("hard",), ("class", "cluster", "class"), SAMPLINGS]),
    size_and_spare=st.sampled_from([(1, 0), (8, 5)]),
    seed=st.integers(0, 2**31 - 1),
)
def test_query_sets_are_disjoint(samplings, size_and_spare, seed):
    size, spare = size_and_spare
    total = len(samplings) * size + spare
    rows = draw(jax.random.key(seed), samplings, source(total, seed), CLASSES, size)
    assert rows.shape == (len(samplings), size)
    assert len(np.unique(rows)) == len(samplings) * size
    assert rows.min() >= 0
    assert rows.max() < total


def test_same_key_same_query_sets():
    sets = [draw(jax.random.key(seed), SAMPLINGS, source(100), CLASSES, 8) for seed in (3, 3, 4)]
    assert np.array_equal(sets[0], sets[1])
    assert not np.array_equal(sets[0], sets[2])


def test_uniform_draws_every_example_alike():
    rows = draw_often(jax.random.split(KEY, 500), ("uniform",), source(20), CLASSES, 5)
    assert chisquare(np.bincount(rows.ravel(), minlength=20)).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["uniform", "class", "cluster"])
def test_of_a_large_set_all_examples_are_candidates_alike(monkeypatch, strategy):
    monkeypatch.setattr(sampling, "CANDIDATES", 16)
    examples = source(60)._replace(labels=jnp.arange(60) % 6, clusters=jnp.arange(60) % 3)
    rows = jax.vmap(lambda key: draw_queries(key, (strategy, strategy), examples, CLASSES, 1))(
        jax.random.split(KEY, 1500)
    )
    assert (rows[:, 0] != rows[:, 1]).all()
    assert chisquare(np.bincount(rows.ravel(), minlength=60)).pvalue > 1e-3


@pytest.mark.slow
def test_of_a_large_set_hard_examples_are_still_preferred(monkeypatch):
    monkeypatch.setattr(sampling, "CANDIDATES", 16)
    losses = jnp.where(jnp.arange(60) < 30, 0.1, 2.0)
    rows = jax.vmap(
        lambda key: draw_queries(key, ("hard",), source(60)._replace(losses=losses), CLASSES, 1)
    )(jax.random.split(KEY, 2000))
    assert np.mean(rows >= 30) == pytest.approx(2.0 / 2.1, abs=0.02)


def test_class_restricted_set_holds_half_of_the_classes():
    examples = source(200)
    rows = draw_often(jax.random.split(KEY, 50), ("uniform", "class"), examples, CLASSES, 20)
    labels = [np.unique(examples.labels[row]) for row in rows[:, 1]]
    assert all(len(present) <= CLASSES // 2 for present in labels)
    assert len({tuple(present) for present in labels}) > 5  # the half changes from draw to draw
    assert set(np.concatenate(labels)) == set(range(CLASSES))


def test_cluster_set_stays_in_one_cluster():
    examples = source(200)
    rows = draw_often(jax.random.split(KEY, 50), ("cluster",), examples, CLASSES, 20)
    clusters = [np.unique(examples.clusters[row]) for row in rows[:, 0]]
    assert all(len(present) == 1 for present in clusters)
    assert set(np.concatenate(clusters)) == {0, 1, 2}


def test_hard_draws_in_proportion_to_the_loss():
    losses = jnp.array([0.5, 1.0, 2.5, 4.0])
    examples = QuerySource(jnp.zeros(4, int), losses, jnp.zeros(4, int))
    first = draw_often(jax.random.split(KEY, 2000), ("hard",), examples, CLASSES, 1)
    wanted = 2000 * losses / losses.sum()
    assert chisquare(np.bincount(first.ravel(), minlength=4), wanted, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("strategy", ["class", "cluster"])
def test_a_set_that_runs_short_is_filled_up_at_random(strategy):
    # Row 0 alone is in class 0 and cluster 0, so a set of three there takes two of the others.
    only_first = jnp.arange(21) > 0
    examples = QuerySource(only_first.astype(int), jnp.ones(21), only_first.astype(int))
    rows = draw_often(jax.random.split(KEY, 4000), (strategy,), examples, 2, 3)[:, 0]
    short = np.asarray(rows)[(np.asarray(rows) == 0).any(1)]
    filled = np.bincount(short.ravel(), minlength=21)
    assert filled[0] == len(short) > 100
    assert chisquare(filled[1:]).pvalue > 1e-3


def test_random_labels_are_uniform_over_the_allowed_others():
    allowed = jnp.array([True, True, False, True, True])
    labels = jnp.repeat(jnp.arange(5), 2000)
    drawn = jax.jit(random_labels)(KEY, labels, allowed).reshape(5, 2000)
    for label in range(5):
        others = [c for c in (0, 1, 3, 4) if c != label]
        counts = np.bincount(drawn[label], minlength=5)
        assert counts[others].sum() == 2000  # neither the true class nor the one not allowed
        assert chisquare(counts[others]).pvalue > 1e-3


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("allowed", [[True, True], [True, False]])
def test_random_labels_of_two_classes_are_the_other_one(label, allowed):
    labels = jnp.full(50, label)
    assert (random_labels(KEY, labels, jnp.array(allowed)) == 1 - label).all()


def test_clusters_of_outputs_are_found_and_repeatable():
    centres = 20 * np.eye(3)
    logits = np.repeat(centres, 10, axis=0) + np.random.default_rng(0).normal(size=(30, 3))
    clusters = cluster_outputs(logits, 3, seed=0).reshape(3, 10)
    assert all(len(np.unique(row)) == 1 for row in clusters)
    assert len(np.unique(clusters)) == 3
    assert np.array_equal(clusters.ravel(), cluster_outputs(logits, 3, seed=0))
    assert len(np.unique(cluster_outputs(logits[:2], 10, seed=0))) == 2  # fewer rows than clusters
