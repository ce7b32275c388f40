"""Distances by plain loops and closed forms, and KLoM's values where unlearning was exact."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ltu_jax.audit import distances
from tests.refusals import refused

# Of half precision, since steps between subnormal edges vanish.
margins = arrays(
    np.float64,
    st.tuples(st.integers(1, 9), st.just(3)),
    elements=st.floats(-9, 9, width=16),
)
raw_predictions = arrays(np.float64, (5, 4), elements=st.floats(0.01, 1))


def normalised(values):
    return values / values.sum(axis=1, keepdims=True)


def test_examples():
    assert doctest.testmod(distances).failed == 0


@given(margins, margins)
def test_klom_by_histograms(unlearned, retrained):
    actual = distances.klom(unlearned, retrained, bins=6)
    for value, first, second in zip(actual, unlearned.T, retrained.T):
        low, high = min(first.min(), second.min()), max(first.max(), second.max())
        edges = np.linspace(low, high if high > low else low + 1, 7)
        p, q = (np.histogram(part, edges)[0] / len(part) for part in (first, second))
        q = np.where(p > 0, np.maximum(q, 1e-5), q)
        assert value == pytest.approx(stats.entropy(p, q), abs=1e-9)


@given(margins)
def test_klom_of_a_model_from_itself_is_0(margins):
    assert distances.klom(margins, margins) == pytest.approx(0, abs=1e-12)


def test_klom_knows_no_order_and_no_unit():
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(size=(2, 30, 4))
    expected = distances.klom(unlearned, retrained)
    np.testing.assert_allclose(distances.klom(unlearned[::-1], retrained), expected)
    # Powers of 2 keep the bins' edges where they were.
    np.testing.assert_allclose(distances.klom(4 * unlearned, 4 * retrained), expected)
    assert (distances.klom(retrained, unlearned) != expected).any()


def test_klom_of_margins_that_the_released_code_cannot_count():
    """Beyond 100 all margins are the largest, and fill no bin there."""
    far, near = np.full((10, 1), 150.0), np.linspace(-1, 1, 10)[:, None]
    assert distances.klom(far, near) == pytest.approx(np.log(1 / 1e-5), rel=1e-3)
    with refused("unlearned"):
        distances.klom(far, near, last_bin="released")
    assert distances.klom(far, far, last_bin="released") == 0


@pytest.mark.parametrize(
    ("models", "examples", "released", "closed"),
    [(20, 4000, 3.0, 3.05), (100, 2000, 0.34, 0.353), (500, 500, 0.05, 0.0517)],
)
def test_klom_of_exact_unlearning(models, examples, released, closed):
    unlearned, retrained = np.random.default_rng(0).normal(size=(2, models, examples))
    for last_bin, expected in (("released", released), ("closed", closed)):
        actual = np.mean(distances.klom(unlearned, retrained, last_bin=last_bin))
        assert actual == pytest.approx(expected, rel=0.03), last_bin


def test_klom_floor_is_that_of_independent_ensembles():
    rng = np.random.default_rng(0)
    ensembles = rng.normal(size=(20, 2, 12, 200))
    expected = np.mean([distances.klom(*pair) for pair in ensembles])
    floor = distances.klom_floor(*ensembles[0], draws=100)
    assert floor.mean == pytest.approx(expected, rel=0.05)
    assert floor.mean < floor.high
    again = distances.klom_floor(*ensembles[0], draws=100)
    assert floor[:3] == again[:3]
    np.testing.assert_array_equal(floor.example_p_values, again.example_p_values)


def test_klom_floor_gives_false_alarms_at_its_level():
    rng = np.random.default_rng(0)
    floors = [
        distances.klom_floor(*rng.normal(size=(2, 8, 5)), bins=5, draws=39, seed=seed)
        for seed in range(200)
    ]
    for p_values in (
        [f.p_value for f in floors],
        np.concatenate([f.example_p_values for f in floors]),
    ):
        for level in (0.1, 0.5):
            # Ties of few bins make it fewer; 3 deviations of 200 tests more.
            alarms = np.mean(np.array(p_values) <= level)
            assert alarms <= level + 3 * np.sqrt(level * (1 - level) / 200)


def test_klom_floor_tells_damaged_examples():
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(size=(2, 40, 20))
    unlearned[:, :5] += 4
    floor = distances.klom_floor(unlearned, retrained, draws=99)
    assert floor.p_value == 0.01
    assert np.mean(distances.klom(unlearned, retrained)) > floor.high
    np.testing.assert_array_equal(floor.example_p_values[:5], 0.01)
    assert np.median(floor.example_p_values[5:]) > 0.1


def test_klom_floor_takes_unequal_numbers_of_models():
    rng = np.random.default_rng(0)
    floor = distances.klom_floor(rng.normal(size=(10, 50)), rng.normal(size=(40, 50)), draws=50)
    independent = distances.klom(rng.normal(size=(10, 2000)), rng.normal(size=(40, 2000)))
    assert floor.mean == pytest.approx(np.mean(independent), rel=0.2)


@given(raw_predictions, raw_predictions)
def test_distances_of_predictions(p, q):
    p, q = normalised(p), normalised(q)
    middle = (p + q) / 2
    entropies = [stats.entropy(part, middle, base=2, axis=1) for part in (p, q)]
    np.testing.assert_allclose(
        distances.js_divergence(p, q), np.mean(entropies, axis=0), atol=1e-12
    )
    np.testing.assert_array_equal(distances.js_divergence(p, q), distances.js_divergence(q, p))
    assert distances.zrf(p, q) == pytest.approx(1 - np.mean(distances.js_divergence(p, q)))
    assert distances.zrf(p, p) == 1
    assert distances.activation_distance(p, q) == pytest.approx(
        np.mean([np.linalg.norm(a - b, 1) for a, b in zip(p, q)])
    )
    assert distances.activation_distance(p, p) == 0


def test_distances_of_opposite_predictions():
    sure = np.eye(3)
    assert distances.activation_distance(sure, sure[[1, 2, 0]]) == 2
    assert distances.zrf(sure, sure[[1, 2, 0]]) == 0


def test_weight_distance():
    a = {"conv/w": np.full((2, 2), 3.0), "conv/b": np.zeros(2), "norm/scale": np.ones(1)}
    b = {"conv/w": np.full((2, 2), 2.0), "conv/b": np.zeros(2), "norm/scale": np.full(1, 3.0)}
    actual = distances.weight_distance(a, b)
    expected = {"conv/w": 0.5, "conv/b": 0.0, "norm/scale": 2 / 3, "total": np.sqrt(8 / 25)}
    assert actual == pytest.approx(expected)
    moved = distances.weight_distance({**a, "conv/b": np.ones(2)}, b)
    assert moved["conv/b"] == np.inf
    assert np.isfinite(moved["total"])


def test_relearn_time():
    assert distances.relearn_time([0.1, 0.5], 0.2) == 0
    assert distances.relearn_time([3.0, np.inf, 0.2, 0.3, 0.1], 0.2) == 2
    assert distances.relearn_time([3.0, 2.0], 0.2) is None


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: distances.klom([[np.nan]], [[0.0]]), "unlearned"),
        (lambda: distances.klom([0.0], [[0.0]]), "unlearned"),
        (lambda: distances.klom([[0.0, 1.0]], [[0.0]]), "retrained"),
        (lambda: distances.klom([[0.0]], [[0.0]], bins=0), "bins"),
        (lambda: distances.klom([[0.0]], [[0.0]], last_bin="open"), "last_bin"),
        (lambda: distances.klom_floor([[0.0]], [[0.0]], draws=0), "draws"),
        (lambda: distances.activation_distance([[0.5, 0.4]], [[0.5, 0.5]]), "p"),
        (lambda: distances.js_divergence([[1.0]], [[0.5, 0.5]]), "q"),
        (lambda: distances.zrf([[1.0]], [[1.5]]), "random_teacher_p"),
        (lambda: distances.weight_distance({"a": [1.0]}, {"b": [1.0]}), "params_a"),
        (lambda: distances.weight_distance({}, {}), "params_a"),
        (lambda: distances.weight_distance({"a": [1.0]}, {"a": [1.0, 2.0]}), "params_b"),
        (lambda: distances.weight_distance({"a": [np.nan]}, {"a": [1.0]}), "params_a"),
        (lambda: distances.relearn_time([np.nan], 0.1), "losses"),
        (lambda: distances.relearn_time([1.0], np.nan), "target_loss"),
    ],
)
def test_bad_input(call, argument):
    with refused(argument):
        call()
