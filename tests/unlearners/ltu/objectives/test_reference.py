"""Surrogate targets: held-out examples, or the outputs of a reference model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ltu_jax
from ltu_jax.errors import DivergedError
from ltu_jax.training.supervised import recipe_for
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.ltu import LTUConfig, Objective
from ltu_jax.unlearners.ltu.objectives import reference as module
from ltu_jax.unlearners.ltu.objectives.reference import (
    SHIFT_THRESHOLD,
    Reference,
    find_reference,
    rank_statistic,
    surrogate_targets,
    train_reference,
    two_sample_statistic,
    warn_if_inaccurate,
)
from tests import tiny

KEY = jax.random.key(0)


def target_rows(labels, heldout_labels, gone=(False, False, False)):
    """Return the held-out rows that are targets of these forget labels, and their labels."""
    rng = np.random.default_rng(0)
    heldout = rng.normal(size=(len(heldout_labels), 3)).astype(np.float32)
    logits, under = surrogate_targets(labels, (heldout, np.asarray(heldout_labels)), np.array(gone))
    rows = (logits[:, None] == heldout).all(-1).argmax(1)
    np.testing.assert_array_equal(heldout[rows], logits)  # held-out outputs and nothing else
    return rows, under, heldout


HELDOUT_LABELS = np.repeat([0, 1, 2], 20)


def test_targets_have_the_class_proportions_of_the_forget_set():
    labels = np.random.default_rng(1).permutation(np.repeat([0, 2], [15, 5]))
    rows, under, _ = target_rows(labels, HELDOUT_LABELS)
    np.testing.assert_array_equal(HELDOUT_LABELS[rows], under)
    counts = np.bincount(under, minlength=3)
    np.testing.assert_array_equal(counts / len(under), [0.75, 0.0, 0.25])


@pytest.mark.parametrize("count", [1, 7, 20, 60])
def test_every_heldout_example_of_the_class_is_used_about_equally(count):
    rows, _, _ = target_rows(np.full(count, 1), HELDOUT_LABELS)
    uses = np.bincount(rows, minlength=60)
    assert (uses[:20] == 0).all()
    assert (uses[40:] == 0).all()
    assert uses[20:40].min() > 0
    assert np.ptp(uses[20:40]) <= 1


def test_targets_of_a_forgotten_class_are_other_images_under_its_label():
    rows, under, _ = target_rows(np.full(40, 1), HELDOUT_LABELS, gone=(False, True, False))
    assert (under == 1).all()
    assert set(HELDOUT_LABELS[rows]) == {0, 2}


def test_targets_of_a_class_and_some_of_another():
    labels = np.repeat([0, 1], 20)
    rows, under, _ = target_rows(labels, HELDOUT_LABELS, gone=(False, True, False))
    ordinary, gone = np.bincount(under)
    assert ordinary == gone
    assert set(HELDOUT_LABELS[rows[under == 0]]) == {0}
    assert set(HELDOUT_LABELS[rows[under == 1]]) == {0, 2}


def test_targets_of_a_class_without_heldout_examples_are_all_others():
    rows, under, _ = target_rows(np.full(40, 2), HELDOUT_LABELS[:40])
    uses = np.bincount(rows, minlength=40)
    assert uses.min() == uses.max() > 0
    np.testing.assert_array_equal(under, HELDOUT_LABELS[rows])


def test_a_reference_gives_the_targets_of_its_classes():
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [15, 5, 10]))
    rng = np.random.default_rng(2)
    heldout = rng.normal(size=(60, 3)).astype(np.float32), HELDOUT_LABELS
    answers = rng.normal(size=(30, 3)).astype(np.float32)
    reference = Reference(answers, heldout[0], np.array([False, True, True]))
    gone = np.array([False, False, True])
    plain, _ = surrogate_targets(labels, heldout, gone)
    logits, under = surrogate_targets(labels, heldout, gone, reference)
    np.testing.assert_array_equal(np.bincount(under) / len(under), [1 / 2, 1 / 6, 1 / 3])
    np.testing.assert_array_equal(logits[under == 0], plain[under == 0])
    for label in (1, 2):
        own, uses = np.unique(logits[under == label], axis=0, return_counts=True)
        np.testing.assert_array_equal(own, np.unique(answers[labels == label], axis=0))
        assert np.ptp(uses) <= 1


def members(seed, count, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    return Examples(np.eye(3)[labels] * 4 + rng.normal(size=(count, 3)) + [shift, 0, 0], labels)


def some(examples, rows):
    return Examples(examples.inputs[rows], examples.labels[rows])


@pytest.mark.parametrize(
    ("seed", "size"), [(0, 12), (1, 30), (2, 60), (3, 100), (4, 200), (5, 250)]
)
def test_a_random_forget_set_is_no_shift(seed, size):
    every = members(seed, 500)
    assert (
        two_sample_statistic(some(every, slice(size)), some(every, slice(size, 500)))
        < SHIFT_THRESHOLD
    )


def test_class_proportions_are_no_shift():
    every = members(0, 800)
    mostly = np.flatnonzero((every.labels == 0) | (np.random.default_rng(1).random(800) < 0.1))
    forget = np.random.default_rng(2).permutation(mostly)[:120]
    rest = np.setdiff1d(np.arange(800), forget)
    assert two_sample_statistic(some(every, forget), some(every, rest)) < SHIFT_THRESHOLD


def test_a_subpopulation_is_detected_and_too_few_examples_are_not():
    assert two_sample_statistic(members(0, 60, shift=3.0), members(1, 300)) > SHIFT_THRESHOLD
    assert two_sample_statistic(members(0, 9, shift=30.0), members(1, 300)) == 0
    far = members(0, 60, shift=3.0)
    other = far._replace(labels=np.full(60, 7))
    assert two_sample_statistic(other, members(1, 300)) == 0  # no class is shared


def test_the_statistic_of_one_class_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    said, is_forget = rng.normal(size=50), np.arange(50) < 20
    expected = scipy.stats.mannwhitneyu(
        said[:20], said[20:], alternative="greater", method="asymptotic", use_continuity=False
    )
    z = rank_statistic(said, np.zeros(50), is_forget)
    assert scipy.stats.norm.sf(z) == pytest.approx(expected.pvalue)


def examples(seed, count, tag):
    drawn = members(seed, count)
    inputs = np.column_stack([drawn.inputs, np.full(count, tag)])
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(drawn.labels, jnp.int32))


DATA = UnlearnData(examples(0, 40, 1.0), examples(1, 200, 2.0), examples(2, 100, 3.0))
OUTPUTS = UnlearnData(*(part._replace(inputs=part.inputs[:, :3]) for part in DATA))


@pytest.mark.parametrize(
    ("source", "gone", "classes"),
    [
        ("heldout", [False, True, False], None),
        ("auto", [False, False, False], None),
        ("auto", [False, True, False], [False, True, False]),
        ("reference", [False, False, False], [True, True, True]),
    ],
)
def test_a_reference_is_trained_if_needed_and_on_accessible_examples_alone(
    source, gone, classes, monkeypatch
):
    seen = []

    def spy(model, data, recipe, *, key):
        seen.append(set(np.asarray(data.inputs)[:, 3]))
        return train(model, data, replace(recipe, epochs=1), key=key)

    train = module.train
    monkeypatch.setattr(module, "train", spy)
    model = ltu_jax.models.build("mlp", 3)
    found = find_reference(KEY, model, DATA, OUTPUTS, np.array(gone), source)
    if classes is None:
        assert found is None
        assert not seen
    else:
        assert seen == [{2.0}]
        assert found.classes.tolist() == classes
        assert found.forget.shape == (40, 3)
        assert found.validation.shape == (100, 3)
        margin = [np.diff(np.sort(x), axis=1)[:, -1] for x in (found.validation, OUTPUTS[2].inputs)]
        assert margin[0].mean() == pytest.approx(margin[1].mean(), rel=1e-4)


@pytest.mark.parametrize(("knows", "warned"), [(0.1, True), (0.6, False)])
def test_an_inaccurate_reference_gives_a_warning(knows, warned, caplog):
    labels = np.arange(100) % 3
    known = np.eye(3)[labels]
    logits = np.where(np.arange(100)[:, None] < 100 * knows, known, np.roll(known, 1, axis=1))
    warn_if_inaccurate(logits, Examples(known, labels), np.zeros(3, bool))
    assert ("retain_fraction" in caplog.text) is warned


@pytest.mark.parametrize("good", [1.0, 0.1, 0.0])
def test_a_diverging_reference_is_trained_at_a_lower_learning_rate(good, monkeypatch):
    tried = []

    def training(model, data, recipe, *, key):
        tried.append(recipe.learning_rate)
        if recipe.learning_rate > good * recipe_for("mlp").learning_rate:
            raise DivergedError("loss became nan at step 1")
        return "trained", {}

    monkeypatch.setattr(module, "train", training)
    model = ltu_jax.models.build("mlp", 3)
    if good:
        assert train_reference(KEY, model, DATA.retain) == "trained"
        assert len(tried) == (1 if good == 1 else 2)
    else:
        with pytest.raises(DivergedError):
            train_reference(KEY, model, DATA.retain)
        assert tried == sorted(tried, reverse=True)


@pytest.mark.slow
def test_a_subpopulation_that_shares_a_label_is_forgotten(tmp_path):
    data = tiny.two_sites()
    errors = {}
    for source in ("heldout", "auto"):
        metrics = ltu_jax.unlearn(
            data,
            ltu_jax.by_group("site", "south"),
            # Without fitted models, which on so few examples differ from seed to seed.
            config=LTUConfig(
                steps=200,
                query_size=16,
                objective=Objective("sliced_wasserstein", target_source=source),
            ),
            retain_fraction=1.0,
            epochs=30,
            out=tmp_path / source,
            quiet=True,
        ).metrics
        errors[source] = {name: row.ua for name, row in metrics.items()}
    assert errors["auto"]["original"] < 5
    assert errors["auto"]["retrain"] > 90
    assert errors["auto"]["unlearned"] > 80
    assert errors["heldout"]["unlearned"] < 20
