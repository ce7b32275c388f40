"""Membership models: features in closed form, fitting on synthetic members, both losses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softplus
from sklearn.metrics import roc_auc_score

from ltu_jax.audit import signals
from ltu_jax.unlearners.ltu import match_membership
from ltu_jax.unlearners.ltu import membership as mi

KEY = jax.random.key(0)
CLASSES = 5
LABEL_BLIND = ("entropy", "sorted")


def batch(seed, size=20, num_classes=CLASSES, scale=2.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(size, num_classes)), rng.integers(num_classes, size=size)


def others_descending(outputs, labels):
    return np.stack([np.sort(np.delete(row, y))[::-1] for row, y in zip(outputs, labels)])


def true(outputs, labels):
    return outputs[np.arange(len(labels)), labels][:, None]


CLOSED_FORMS = {
    "log_odds": lambda z, y: signals.margin(z, y)[:, None],
    "entropy": lambda z, y: signals.entropy(z)[:, None],
    "modified_entropy": lambda z, y: signals.modified_entropy(z, y)[:, None],
    "hinge": lambda z, y: true(z, y) - others_descending(z, y)[:, :1],
    "sorted": lambda z, y: -np.sort(-log_softmax(z, axis=1))[:, :5],
    "labelled": lambda z, y: np.hstack(
        [true(log_softmax(z, axis=1), y), others_descending(log_softmax(z, axis=1), y)]
    )[:, :5],
}


@jax.jit
def all_features(logits, labels):
    outputs = mi.read_outputs(logits, labels)
    return {name: feature(outputs).T for name, feature in mi.FEATURES.items()}


@jax.jit
def all_gradients(logits, labels):
    return {
        name: jax.grad(lambda z, f=feature: f(mi.read_outputs(z, labels)).sum())(logits)
        for name, feature in mi.FEATURES.items()
    }


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("name", mi.FEATURES)
def test_features_in_closed_form(name, num_classes):
    logits, labels = batch(num_classes, num_classes=num_classes)
    wanted = CLOSED_FORMS[name](logits, labels)

    with jax.enable_x64(True):
        exact = all_features(logits, labels)[name]
    single = all_features(logits.astype(np.float32), labels)[name]

    assert exact.shape == single.shape == wanted.shape
    assert single.dtype == np.float32
    np.testing.assert_allclose(exact, wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(single, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", mi.FEATURES)
def test_only_label_blind_features_ignore_the_label(name):
    logits, labels = batch(0)
    values, with_others = (all_features(logits, y)[name] for y in (labels, (labels + 1) % CLASSES))
    assert np.array_equal(values, with_others) == (name in LABEL_BLIND)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("name", mi.FEATURES)
def test_saturated_logits_give_finite_values_and_gradients(name, num_classes):
    sure = 50.0 * (2 * np.eye(num_classes) - 1)  # one logit at 50, the others at -50
    ties = np.outer([-50.0, 0.0, 50.0], np.ones(num_classes))
    logits = np.vstack([sure, -sure, ties]).astype(np.float32)
    labels = np.repeat(np.arange(num_classes), len(logits))
    logits = np.tile(logits, (num_classes, 1))

    assert np.isfinite(all_features(logits, labels)[name]).all()
    assert np.isfinite(all_gradients(logits, labels)[name]).all()


def outputs(seed, size, margin):
    """Logits of a network that answers with the true class, `margin` above noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=size)
    logits = rng.normal(size=(size, CLASSES)) + margin * np.eye(CLASSES)[labels]
    return jnp.asarray(logits, jnp.float32), jnp.asarray(labels)


def fit_all(seed, member_margin, nonmember_margin):
    """Three times as many non-members as members; always the same shapes: one compilation."""
    members, nonmembers = (
        outputs(seed, 100, member_margin),
        outputs(seed + 1, 300, nonmember_margin),
    )
    return mi.fit_ensemble(KEY, mi.DIVERSE, members, nonmembers, nonmembers, quantiles=8)


@partial(jax.jit, static_argnums=0)
def scores(specs, ensemble, logits, labels):
    return mi.all_scores(specs, ensemble.heads, logits, labels)


def test_fitted_models_tell_members_from_nonmembers():
    ensemble = fit_all(0, member_margin=6.0, nonmember_margin=1.0)
    unseen_members, unseen_nonmembers = outputs(10, 300, 6.0), outputs(11, 300, 1.0)
    for spec, high, low in zip(
        mi.DIVERSE,
        scores(mi.DIVERSE, ensemble, *unseen_members),
        scores(mi.DIVERSE, ensemble, *unseen_nonmembers),
    ):
        auc = roc_auc_score(np.repeat([1, 0], 300), np.concatenate([high, low]))
        assert auc > 0.95, spec
        assert np.mean(high) > 0 > np.mean(low), spec


def test_fitted_models_are_at_chance_where_there_is_nothing_to_tell():
    ensemble = fit_all(2, member_margin=2.0, nonmember_margin=2.0)
    one, other = (
        scores(mi.DIVERSE, ensemble, *outputs(seed, 300, margin=2.0)) for seed in (12, 13)
    )
    for spec, high, low in zip(mi.DIVERSE, one, other):
        auc = roc_auc_score(np.repeat([1, 0], 300), np.concatenate([high, low]))
        assert abs(auc - 0.5) < 0.08, spec
        # Unbalanced, the scores would centre on the log-odds of the numbers, ln(100 / 300) = -1.1.
        if not spec.hidden:
            assert abs(np.mean(np.concatenate([high, low]))) < 0.4, spec


def test_target_holds_the_quantiles_of_the_surrogate_targets():
    ensemble = fit_all(0, member_margin=6.0, nonmember_margin=1.0)
    targets = scores(mi.DIVERSE, ensemble, *outputs(1, 300, 1.0))
    wanted = np.quantile(targets, (np.arange(8) + 0.5) / 8, axis=1).T
    np.testing.assert_allclose(ensemble.target, wanted, rtol=1e-4, atol=1e-4)
    # Here the targets are the non-members themselves, whose spread is the unit.
    np.testing.assert_allclose(ensemble.unit, targets.std(axis=1), rtol=1e-4)


def test_each_model_reads_its_own_feature_alone():
    specs = mi.DIVERSE
    logits, labels = outputs(3, 50, 2.0)
    heads = jax.device_get(fit_all(0, member_margin=6.0, nonmember_margin=1.0).heads)
    names = mi.feature_names(specs, CLASSES)
    wanted = []
    for k, spec in enumerate(specs):
        own = names == spec.feature
        x = CLOSED_FORMS[spec.feature](np.asarray(logits, float), np.asarray(labels))
        x = (x - heads.mean[own]) / heads.std[own]
        weights, h = heads.linear[k, own], spec.hidden
        if h:
            assert not weights.any()
            x = np.tanh(x @ heads.hidden[k, :h][:, own].T + heads.hidden_bias[k, :h])
            weights = heads.out[k, :h]
        wanted.append(x @ weights + heads.bias[k])
    np.testing.assert_allclose(
        mi.all_scores(specs, heads, logits, labels), wanted, rtol=1e-3, atol=1e-3
    )


def test_fitting_is_a_function_of_its_key():
    one = fit_all(0, member_margin=6.0, nonmember_margin=1.0)
    again = fit_all(0, member_margin=6.0, nonmember_margin=1.0)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(again)))


@jax.jit
def ensemble_for(logits, labels):
    """Return an untrained ensemble whose target are the scores of this very batch."""
    features = mi.all_features(mi.DIVERSE, logits, labels)
    used = mi.used_weights(mi.DIVERSE, logits.shape[1])
    heads = mi.init_heads(KEY, used)
    heads = heads._replace(
        mean=features.mean(1),
        std=features.std(1) + 0.1,
        out=heads.out + 0.7 * used.out,
        linear=heads.linear + 0.7 * used.linear,
    )
    ensemble = mi.Ensemble(heads, None, None, None)
    target = jnp.sort(scores(mi.DIVERSE, ensemble, logits, labels))
    return ensemble._replace(target=target, unit=target.std(axis=1))


@partial(jax.jit, static_argnums=(0, 4))
def losses(specs, ensemble, logits, labels, target="match"):
    return match_membership(specs, target=target).losses(ensemble, (), logits, labels)


def test_matching_loss_vanishes_only_at_the_target():
    logits, labels = batch(0, size=16)
    ensemble = ensemble_for(logits, labels)
    at_target = losses(mi.DIVERSE, ensemble, logits, labels)
    assert at_target.shape == (len(mi.DIVERSE),)
    np.testing.assert_allclose(at_target, 0.0, atol=1e-6)
    for scale in (0.3, 3.0):  # too little and too much confidence: both differ from the target
        assert (losses(mi.DIVERSE, ensemble, scale * logits, labels) > 1e-3).all()


@pytest.mark.parametrize("target", ["match", "push"])
def test_losses_do_not_depend_on_the_order_of_the_batch(target):
    logits, labels = batch(0, size=16)
    ensemble = ensemble_for(*batch(1, size=16))
    order = np.random.default_rng(2).permutation(16)
    np.testing.assert_allclose(
        losses(mi.DIVERSE, ensemble, logits[order], labels[order], target),
        losses(mi.DIVERSE, ensemble, logits, labels, target),
        rtol=1e-5,
    )


def test_losses_in_closed_form():
    spec = mi.MembershipSpec("log_odds")
    logits, labels = batch(0, size=16)
    # This head's score is the log-odds themselves.
    heads = mi.init_heads(KEY, mi.used_weights((spec,), CLASSES))
    heads = heads._replace(mean=jnp.zeros(1), std=jnp.ones(1), linear=jnp.ones((1, 1)))
    target = np.linspace(-1.0, 2.0, 16)
    unit = 0.7
    ensemble = mi.Ensemble(heads, jnp.asarray(target)[None], jnp.array([unit]), None)
    log_odds = true(logits, labels) - logsumexp(others_descending(logits, labels), 1, keepdims=True)

    distance = (np.sort(log_odds[:, 0]) - target) / unit
    rounded = np.where(
        np.abs(distance) < mi.HUBER_DELTA,
        distance**2 / 2 / mi.HUBER_DELTA,
        np.abs(distance) - mi.HUBER_DELTA / 2,
    )
    matching = losses((spec,), ensemble, logits, labels, "match")
    np.testing.assert_allclose(matching, [rounded.mean()], rtol=1e-4)
    # -log(1 - m) of the membership probability m = sigmoid(score).
    pushing = losses((spec,), ensemble, logits, labels, "push")
    np.testing.assert_allclose(pushing, [softplus(log_odds).mean()], rtol=1e-4)


def test_pushing_asks_for_lower_scores_always():
    logits, labels = batch(0, size=16)
    ensemble = ensemble_for(logits, labels)
    levels = []
    for shift in (-20.0, -1.0, 0.0, 1.0):
        heads = ensemble.heads._replace(bias=ensemble.heads.bias + shift)
        moved = ensemble._replace(heads=heads)
        levels.append(losses(mi.DIVERSE, moved, logits, labels, "push"))
    assert (np.diff(levels, axis=0) > 0).all()
    assert (levels[0] < 1e-3).all()  # no floor but zero


@pytest.mark.parametrize("target", ["match", "push"])
def test_whole_ensemble_against_finite_differences(target):
    with jax.enable_x64(True):
        logits, labels = batch(3, size=16)
        ensemble = ensemble_for(*batch(4, size=16))
        direction = np.random.default_rng(5).normal(size=logits.shape)

        def all_losses(z):
            return losses(mi.DIVERSE, ensemble, z, labels, target)

        slopes = jax.jit(lambda z, v: jax.jvp(all_losses, (z,), (v,))[1])(logits, direction)
        above, below = (
            losses(mi.DIVERSE, ensemble, logits + step * direction, labels, target)
            for step in (1e-6, -1e-6)
        )
        differences = (above - below) / 2e-6
    assert (np.abs(slopes) > 1e-3).all()
    np.testing.assert_allclose(slopes, differences, rtol=1e-6, atol=1e-8)


def test_effective_models_of_copies_and_of_independent_models():
    rows = np.random.default_rng(0).normal(size=(4, 4000))
    assert float(mi.effective_models(rows)) == pytest.approx(4, rel=0.01)
    assert float(mi.effective_models(rows[[0, 0, 0]])) == pytest.approx(1, rel=1e-5)
    assert float(mi.effective_models(rows[:1])) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_quantiles_of_the_first_values_are_those_of_a_shorter_row(size):
    values = np.random.default_rng(size).normal(size=(3, 40)).astype(np.float32)
    wanted = np.quantile(values[:, :size], (np.arange(5) + 0.5) / 5, axis=1).T
    np.testing.assert_allclose(mi.mid_quantiles(values, 5, size), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_padding_is_not_fitted():
    rng = np.random.default_rng(0)
    members, nonmembers = (
        (rng.normal(size=(size, 3)).astype(np.float32), np.arange(size) % 3) for size in (30, 20)
    )
    junk = np.concatenate([members[0], 1e3 * np.ones((10, 3), np.float32)]), np.arange(40) % 3
    specs = (mi.MembershipSpec("log_odds", share=1.0), mi.MembershipSpec("hinge", 4, share=1.0))
    one, other = (
        mi.fit_heads(jax.random.key(0), specs, some, nonmembers, num_members=30)
        for some in (members, junk)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, other)
