"""LiRA and RMIA against plain loops and closed forms, and what they find where nothing leaks."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ltu_jax.audit import lira, per_example, references, rmia, roc
from tests.refusals import refused

ATTACKS = ["online", "offline", "offline_two_sided", "in_only", "offset", "global"]
# Distinct whole numbers, so that no side is without spread.
phis = arrays(np.float64, (8, 3), elements=st.integers(-20, 20).map(float), unique=True)


def model_pairs(num_groups, num_examples, rng):
    """Fair inclusion bits `[2 G, n]`, opposite within each pair of models, and the pairs."""
    bits = rng.integers(0, 2, (num_groups, num_examples)).astype(bool)
    included = np.stack([bits, ~bits], axis=1).reshape(2 * num_groups, num_examples)
    return included, np.repeat(np.arange(num_groups), 2)


def ensemble(num_groups, num_examples, *, seed=0, leak=0.0):
    rng = np.random.default_rng(seed)
    included, groups = model_pairs(num_groups, num_examples, rng)
    level = rng.normal(size=num_examples)
    phi = 3 * level + rng.normal(size=included.shape) + leak * included
    return phi, included, groups


def references_of(model, groups, halved):
    """By definition: the models of other groups, and of the same half of the sorted groups."""
    half = np.searchsorted(np.unique(groups), groups) % 2
    return (groups != groups[model]) & (~np.bool_(halved) | (half == half[model]))


@pytest.mark.parametrize("module", [lira, per_example, references, rmia])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("attack", ATTACKS)
def test_lira_by_definition(attack):
    phi, included, _ = ensemble(10, 5, leak=1.0)
    target = np.linspace(-3, 4, 5)
    for j, actual in enumerate(lira.lira_scores(target, phi, included, attack=attack)):
        inside, outside = phi[included[:, j], j], phi[~included[:, j], j]
        log_in = stats.norm.logpdf(target[j], inside.mean(), inside.std())
        log_out = stats.norm.logpdf(target[j], outside.mean(), outside.std())
        expected = {
            "online": log_in - log_out,
            "offline": stats.norm.ppf(stats.norm.cdf(target[j], outside.mean(), outside.std())),
            "offline_two_sided": -log_out,
            "in_only": log_in,
            "offset": target[j] - (inside.mean() + outside.mean()) / 2,
            "global": target[j],
        }
        assert actual == pytest.approx(expected[attack], rel=1e-6)


@given(phis, st.floats(0.1, 10), st.floats(-5, 5))
def test_lira_knows_no_unit(phi, scale, shift):
    included = np.arange(8)[:, None] % 2 == np.arange(3) % 2
    for attack in ("online", "offline"):
        actual = lira.lira_scores(phi[0], phi, included, attack=attack)
        moved = lira.lira_scores(
            scale * phi[0] + shift, scale * phi + shift, included, attack=attack
        )
        assert moved == pytest.approx(actual, rel=1e-6, abs=1e-6)


def test_lira_reaches_the_best_possible_auc():
    """With many references it is the likelihood ratio of N(1, 1) and N(0, 1)."""
    rng = np.random.default_rng(0)
    included = np.arange(800)[:, None] % 2 == np.zeros(4000, int)
    references = rng.normal(size=included.shape) + included
    member = np.arange(4000) % 2 == 0
    target = rng.normal(size=4000) + member
    for attack in ("online", "offline"):
        scores = lira.lira_scores(target, references, included, attack=attack)
        best = stats.norm.cdf(1 / np.sqrt(2))
        assert roc.roc_auc(scores[member], scores[~member]) == pytest.approx(best, abs=0.02)


def test_lira_averages_over_queries():
    rng = np.random.default_rng(0)
    _, included, _ = ensemble(6, 4)
    references, target = rng.normal(size=(12, 4, 3)), rng.normal(size=(4, 3))
    each = [lira.lira_scores(target[:, k], references[..., k], included) for k in range(3)]
    actual = lira.lira_scores(target, references, included)
    np.testing.assert_allclose(actual, np.mean(each, axis=0), rtol=1e-12)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("fixed_variance", [False, True])
@pytest.mark.parametrize("halved", [False, True])
def test_leave_one_out_lira_is_a_loop_over_lira(attack, fixed_variance, halved):
    phi, included, groups = ensemble(10, 7, leak=1.0)
    actual = lira.leave_one_out_lira(
        phi, included, groups, attack=attack, fixed_variance=fixed_variance, halved=halved
    )
    for model in range(len(phi)):
        rows = references_of(model, groups, halved)
        expected = lira.lira_scores(
            phi[model], phi[rows], included[rows], attack=attack, fixed_variance=fixed_variance
        )
        np.testing.assert_allclose(actual[model], expected, rtol=1e-9, atol=1e-9)


def test_no_model_is_a_reference_of_its_own_group():
    phi, included, groups = ensemble(6, 20)
    p, population = 1 / (1 + np.exp(-phi)), np.full((12, 30), 0.5)
    names = np.array(list("fedcba"))[groups]
    changed_phi, changed_p = phi.copy(), p.copy()
    changed_phi[1], changed_p[1] = 50.0, 1.0
    before, after = (
        lira.leave_one_out_lira(values, included, names) for values in (phi, changed_phi)
    )
    np.testing.assert_allclose(before[0], after[0], rtol=1e-9)
    assert (np.abs(before - after)[2:] > 1e-3).any(axis=1).all()
    before, after = (
        rmia.leave_one_out_rmia(values, included, names, population) for values in (p, changed_p)
    )
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[2:] != after[2:]).any()


def test_leave_one_out_scores_are_at_chance_under_the_null():
    """Half of the 1600 scores of an ensemble are members': Mann-Whitney's deviation is 0.0144."""
    aucs = {"lira": [], "rmia": []}
    for seed in range(40):
        phi, included, groups = ensemble(8, 100, seed=seed)
        p = 1 / (1 + np.exp(-phi))
        population = np.random.default_rng(seed).uniform(0.1, 1, (16, 50))
        scores = {
            "lira": lira.leave_one_out_lira(phi, included, groups),
            "rmia": rmia.leave_one_out_rmia(p, included, groups, population),
        }
        for name, values in scores.items():
            aucs[name].append(per_example.summarise_scores(values, included).auc)
    for name, values in aucs.items():
        assert np.mean(values) == pytest.approx(0.5, abs=3 * 0.0144 / np.sqrt(40)), name


@given(
    arrays(np.float64, (4, 3), elements=st.floats(0.05, 1)),
    arrays(np.float64, (6, 4), elements=st.floats(0.05, 1)),
    st.sampled_from([None, 0.0, 0.3, 1.0]),
    st.sampled_from([1.0, 2.0]),
    st.sampled_from(["mean", "released"]),
)
def test_rmia_by_definition(x, z, offline_a, gamma, variant):
    def prior(mean):
        return mean if offline_a is None else ((1 + offline_a) * mean + (1 - offline_a)) / 2

    actual = rmia.rmia_scores(
        x[:, 0], x[:, 1:], z[:, 0], z[:, 1:], offline_a=offline_a, gamma=gamma, variant=variant
    )
    for score, (target, *others) in zip(actual, x):
        dominated = []
        for population, *population_others in z:
            if variant == "released":
                population_others = sorted(population_others)[-2:]
            ratio = target / prior(np.mean(others))
            dominated.append(ratio / gamma - population / prior(np.mean(population_others)))
        # Within rounding of each other either answer is right.
        low, high = np.mean(np.array(dominated) > 1e-12), np.mean(np.array(dominated) > -1e-12)
        assert low <= score <= high


@pytest.mark.parametrize("offline_a", [None, 0.4])
@pytest.mark.parametrize("halved", [False, True])
def test_leave_out_rmia_is_a_loop_over_rmia(offline_a, halved):
    phi, included, groups = ensemble(8, 6, leak=1.0)
    p = 1 / (1 + np.exp(-phi))
    population = np.random.default_rng(1).uniform(0.1, 1, (16, 40))
    actual = rmia.leave_one_out_rmia(
        p, included, groups, population, offline_a=offline_a, halved=halved
    )
    for model in range(len(p)):
        rows = references_of(model, groups, halved)
        use = rows[:, None] & (~included if offline_a is not None else np.ones_like(included))
        # Pairs have as many IN as OUT models of each example, so that a plain mean is right.
        references = np.stack([p[use[:, j], j] for j in range(6)])
        expected = rmia.rmia_scores(
            p[model], references, population[model], population[rows].T, offline_a=offline_a
        )
        np.testing.assert_allclose(actual[model], expected, atol=1e-12)


def test_rmia_online_weighs_both_sides_alike():
    """Three IN models of p = 0.8 and two OUT models of 0.2 make Pr(x) 0.5, not 0.56."""
    p = np.array([0.5, 0.8, 0.8, 0.8, 0.2, 0.2])[:, None]
    included = np.array([False, True, True, True, False, False])[:, None]
    population = np.full((6, 2), 0.5)
    population[0] = [0.495, 0.505]  # ratios of 0.99 and 1.01, where x has 1
    scores = rmia.leave_one_out_rmia(p, included, np.arange(6), population)
    assert scores[0, 0] == 0.5


def test_offline_a_is_the_best_on_the_known_model():
    rng = np.random.default_rng(0)
    member = np.arange(200) % 2 == 0
    out = rng.uniform(0.05, 0.95, (200, 2))
    target = np.clip(out.mean(axis=1) + 0.1 * member + 0.1 * rng.normal(size=200), 0.01, 1)
    population = rng.uniform(0.05, 0.95, (100, 3))
    inputs = target, out, population[:, 0], population[:, 1:]
    tuned = rmia.tune_offline_a(*inputs, member)
    aucs = {}
    for a in np.arange(11) / 10:
        scores = rmia.rmia_scores(*inputs, offline_a=a)
        aucs[a] = roc.roc_auc(scores[member], scores[~member])
    assert tuned.auc == aucs[tuned.offline_a] == max(aucs.values())
    assert min(aucs.values()) < tuned.auc
    np.testing.assert_array_equal(
        tuned.scores, rmia.rmia_scores(*inputs, offline_a=tuned.offline_a)
    )


@given(arrays(np.float64, (8, 5), elements=st.integers(-3, 3).map(float)), st.integers(0, 99))
def test_summary_is_that_of_the_curves(scores, seed):
    included, groups = model_pairs(4, 5, np.random.default_rng(seed))
    summary = per_example.summarise_scores(scores, included)
    members, others = scores[included], scores[~included]
    assert summary.auc == roc.roc_auc(members, others)
    assert summary.tpr_1 == roc.tpr_at_fpr(members, others, 0.01).tpr
    assert summary.tpr_01 == roc.tpr_at_fpr(members, others, 0.001).tpr
    assert summary.negatives == 20
    columns = zip(scores.T, included.T)
    expected = [roc.roc_auc(column[mask], column[~mask]) for column, mask in columns]
    np.testing.assert_allclose(summary.example_auc, expected, atol=1e-12)
    order = np.sign(np.where(included[::2], 1, -1) * (scores[::2] - scores[1::2]))
    within = per_example.example_auc(scores, included, groups)
    np.testing.assert_allclose(within, np.mean((order + 1) / 2, axis=0), atol=1e-12)


def null_worst(num_groups, *, honest):
    """Mean over ensembles of the worst AUC where nothing leaks, and its standard error."""
    values = []
    for seed in range(60):
        phi, included, groups = ensemble(num_groups, 60, seed=seed)
        scores = lira.leave_one_out_lira(phi, included, groups)
        select = lira.leave_one_out_lira(phi, included, groups, halved=True) if honest else scores
        values.append(per_example.worst_auc(scores, included, groups, 0.05, select=select))
    return np.mean(values), np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("num_groups", [6, 16])
def test_worst_examples_are_at_chance_under_the_null(num_groups):
    mean, error = null_worst(num_groups, honest=True)
    assert abs(mean - 0.5) < 3 * error
    # The same models to select and to rate would report a leak.
    mean, error = null_worst(num_groups, honest=False)
    assert mean - 0.5 > 3 * error


def test_worst_examples_are_the_leaking_ones():
    leak = np.where(np.arange(100) < 5, 3.0, 0.0)
    phi, included, groups = ensemble(32, 100, leak=leak)
    scores, select = (
        lira.leave_one_out_lira(phi, included, groups, halved=halved) for halved in (False, True)
    )
    found = per_example.worst_auc(scores, included, groups, 0.05, select=select)
    assert found > 0.95  # of two normals 3 deviations apart it is 0.983
    everything = per_example.worst_auc(scores, included, groups, 1.0, select=select)
    assert everything == pytest.approx(
        np.mean(per_example.example_auc(scores, included, groups)), abs=1e-12
    )


def lira_call(**changes):
    phi, included, _ = ensemble(4, 3)
    given = {"target": phi[0], "references": phi, "included": included, **changes}
    return lira.lira_scores(**given)


def leave_out_call(**changes):
    phi, included, groups = ensemble(4, 3)
    return lira.leave_one_out_lira(
        **{"phi": phi, "included": included, "groups": groups, **changes}
    )


def rmia_call(**changes):
    half = np.full((3, 2), 0.5)
    given = {"target": half[:, 0], "references": half, "population": half[:, 0], **changes}
    return rmia.rmia_scores(**{"population_references": half, **given})


def leave_out_rmia_call(**changes):
    _, included, groups = ensemble(4, 3)
    given = {"p": np.full((8, 3), 0.5), "included": included, "groups": groups, **changes}
    return rmia.leave_one_out_rmia(**{"population_p": np.full((8, 2), 0.5), **given})


def worst_auc_call(scores=None, share=0.5, num_groups=4):
    phi, included, groups = ensemble(num_groups, 3)
    scores = phi if scores is None else scores
    return per_example.worst_auc(scores, included, groups, share, select=phi)


ONE_IN = np.arange(8)[:, None] == np.zeros(3, int)
NONE_IN_THIRD = np.arange(8)[:, None] % 2 == np.array([0, 0, 3])


@pytest.mark.parametrize(
    ("call", "changes", "argument"),
    [
        (lira_call, {"attack": "both"}, "attack"),
        (lira_call, {"centre": "mode"}, "centre"),
        (lira_call, {"target": np.full(3, np.nan)}, "target"),
        (lira_call, {"target": 1.0}, "target"),
        (lira_call, {"references": np.full((8, 3), np.inf)}, "references"),
        (lira_call, {"references": np.zeros((8, 4))}, "references"),
        (lira_call, {"included": np.ones((8, 3))}, "included"),
        (lira_call, {"included": ONE_IN}, "included"),
        (lira_call, {"included": NONE_IN_THIRD}, "included"),
        (lira_call, {"included": ~NONE_IN_THIRD, "attack": "offline"}, "included"),
        (
            lira_call,
            {"included": NONE_IN_THIRD, "fixed_variance": True},
            "included",
        ),
        (leave_out_call, {"groups": np.zeros(8)}, "groups"),
        (leave_out_call, {"groups": np.arange(8) // 3, "halved": True}, "groups"),
        (leave_out_call, {"groups": np.arange(7)}, "groups"),
        (leave_out_call, {"phi": np.full((8, 3), np.nan)}, "phi"),
        # Two IN models in all are one too few where one of them is the target.
        (leave_out_call, {"included": np.arange(8)[:, None] < [2, 4, 4]}, "included"),
        (rmia_call, {"target": np.full(3, 1.5)}, "target"),
        (rmia_call, {"target": np.full(2, 0.5)}, "references"),
        (rmia_call, {"population": np.full(2, 0.5)}, "population_references"),
        (rmia_call, {"references": np.zeros((3, 2))}, "references"),
        (rmia_call, {"offline_a": 1.5}, "offline_a"),
        (rmia_call, {"gamma": 0.5}, "gamma"),
        (rmia_call, {"variant": "median"}, "variant"),
        (
            rmia_call,
            {"variant": "released", "references": np.full((3, 3), 0.5)},
            "population_references",
        ),
        (leave_out_rmia_call, {"p": np.full((8, 3), -0.5)}, "p"),
        (leave_out_rmia_call, {"population_p": np.full((7, 2), 0.5)}, "population_p"),
        (leave_out_rmia_call, {"included": ONE_IN}, "included"),
        (worst_auc_call, {"scores": np.full((8, 3), np.nan)}, "scores"),
        (worst_auc_call, {"share": 0.0}, "share"),
        (worst_auc_call, {"num_groups": 3}, "groups"),
    ],
)
def test_bad_input(call, changes, argument):
    call()
    with refused(argument):
        call(**changes)


def test_bad_comparisons():
    scores, included = np.zeros((2, 3)), np.array([[True] * 3, [True, False, False]])
    with refused("included"):
        per_example.summarise_scores(scores, included)
    with refused("groups"):
        per_example.example_auc(scores, included, np.zeros(3))
    with refused("evaluate"):
        per_example.mean_of_largest([0.1, 0.2], [0.1, 0.2, 0.3], 0.5)
    with refused("member"):
        rmia.tune_offline_a([0.5], [[0.5]], [0.5], [[0.5]], np.array([1]))
    with refused("attack"):
        lira.released_lira_scores(scores[0], scores, included, attack="offline")
