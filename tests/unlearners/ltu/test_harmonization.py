"""Harmonisation: properties, edge cases, and parity with PCGrad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.errors import InputError
from ltu_jax.unlearners.ltu.harmonization import harmonize, project, project_conflicts
from tests.unlearners.parity import read_case

ALL = ["two-way", "per-layer", "protect-retain", "protect-forget", "none"]

seeds = st.integers(0, 2**32 - 1)


def gradients(seed):
    """Two random gradients over a small pytree; their angle is anything."""
    rng = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(rng.normal(size=shape) + rng.normal(), jnp.float32)  # noqa: E731
    return tuple({"kernel": draw((3, 4)), "bias": draw(4)} for _ in range(2))


def dot(a, b):
    return sum(float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def size(a):
    return dot(a, a) ** 0.5


def flip_to_agree(a, b, agree):
    """Return `b` or its negative, whichever makes the pair agree (or conflict)."""
    return b if (dot(a, b) >= 0) == agree else jax.tree.map(jnp.negative, b)


def assert_close(a, b, tolerance=1e-5):
    scale = max(size(a), size(b), 1e-30)
    assert size(jax.tree.map(jnp.subtract, a, b)) <= tolerance * scale


@given(seeds)
@settings(max_examples=50)
def test_without_conflict_the_result_is_the_sum(seed):
    remember, forget = gradients(seed)
    forget = flip_to_agree(remember, forget, agree=True)
    total = jax.tree.map(jnp.add, remember, forget)
    for mode in ("two-way", "protect-retain", "protect-forget", "none"):
        direction, conflict = harmonize(remember, forget, mode)
        assert_close(direction, total)
        assert float(conflict.conflict) == 0.0


@given(seeds, st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=50)
def test_two_way_conflicts_with_neither_and_has_the_closed_form(seed, log_a, log_b):
    remember, forget = gradients(seed)
    remember = jax.tree.map(lambda g: 10**log_a * g, remember)
    forget = jax.tree.map(lambda g: 10**log_b * g, flip_to_agree(remember, forget, agree=False))
    direction, conflict = harmonize(remember, forget, "two-way")
    cosine = dot(remember, forget) / size(remember) / size(forget)
    assert abs(float(conflict.cosine) - cosine) < 1e-4
    assert float(conflict.conflict) == 1.0
    for own, other in ((remember, forget), (forget, remember)):
        wanted = (1 - cosine**2) * size(own) ** 2
        tolerance = 1e-4 * size(own) * (size(own) + size(other))
        assert abs(dot(direction, own) - wanted) <= tolerance


@given(seeds, st.floats(-3, 3))
@settings(max_examples=50)
def test_two_way_is_the_sum_of_the_vmapped_projections(seed, log_scale):
    remember, forget = gradients(seed)
    forget = jax.tree.map(lambda g: 10**log_scale * g, flip_to_agree(remember, forget, False))
    rows = jax.tree.map(lambda *pair: jnp.stack(pair), remember, forget)
    wanted = jax.tree.map(lambda g: g.sum(0), project_conflicts(rows))
    direction, conflict = harmonize(remember, forget)
    difference = size(jax.tree.map(jnp.subtract, direction, wanted))
    assert difference <= 1e-5 * (size(remember) + size(forget))
    np.testing.assert_allclose(conflict.norms, [size(remember), size(forget)], rtol=1e-5)


@given(seeds)
@settings(max_examples=50)
def test_one_way_leaves_the_protected_gradient_whole(seed):
    remember, forget = gradients(seed)
    forget = flip_to_agree(remember, forget, agree=False)
    direction, _ = harmonize(remember, forget, "protect-retain")
    rest = jax.tree.map(jnp.subtract, direction, remember)
    assert abs(dot(rest, remember)) <= 1e-4 * size(rest) * size(remember) + 1e-4
    mirrored, _ = harmonize(forget, remember, "protect-forget")
    assert_close(direction, mirrored)


@given(seeds)
@settings(max_examples=30)
def test_symmetric_modes_do_not_depend_on_the_order(seed):
    remember, forget = gradients(seed)
    for mode in ("two-way", "per-layer", "none"):
        assert_close(harmonize(remember, forget, mode)[0], harmonize(forget, remember, mode)[0])


@given(seeds, st.floats(-20, 20))
@settings(max_examples=30)
def test_positive_scaling_passes_through(seed, log_scale):
    remember, forget = gradients(seed)
    scale = lambda tree: jax.tree.map(lambda g: jnp.float32(10**log_scale) * g, tree)  # noqa: E731
    for mode in ALL:
        scaled, _ = harmonize(scale(remember), scale(forget), mode)
        wanted = harmonize(remember, forget, mode)[0]
        unscaled = jax.tree.map(lambda g: g / jnp.float32(10**log_scale), scaled)
        assert_close(unscaled, wanted, 1e-4)


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("scale_a", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("scale_b", [0.0, 1e-30, -1.0, -1e30])
def test_zero_tiny_and_huge_gradients_stay_finite(mode, scale_a, scale_b):
    tree, _ = gradients(0)
    remember = jax.tree.map(lambda g: jnp.float32(scale_a) * g, tree)
    forget = jax.tree.map(lambda g: jnp.float32(scale_b) * g, tree)
    direction, conflict = harmonize(remember, forget, mode)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(direction))
    assert np.isfinite(float(conflict.cosine))


def test_zero_reference_leaves_the_gradient_unchanged():
    gradient, _ = gradients(1)
    assert_close(project(gradient, jax.tree.map(jnp.zeros_like, gradient)), gradient)


def test_per_layer_treats_every_tensor_alone():
    remember = {"a": jnp.array([1.0, 0.0]), "b": jnp.array([1.0, 0.0])}
    forget = {"a": jnp.array([-1.0, 1.0]), "b": jnp.array([3.0, 0.0])}
    direction, conflict = harmonize(remember, forget, "per-layer")
    np.testing.assert_allclose(direction["a"], [0.5, 1.5])
    np.testing.assert_allclose(direction["b"], [4.0, 0.0])
    assert float(conflict.conflict) == 0.0  # over all parameters the two agree


def test_an_unknown_mode_is_refused():
    remember, forget = gradients(0)
    with pytest.raises(InputError) as error:
        harmonize(remember, forget, "sideways")
    assert error.value.argument == "harmonize"


def test_cosine_of_a_vanishing_gradient_is_zero():
    assert float(harmonize(jnp.zeros(3), jnp.ones(3))[1].cosine) == 0.0


@pytest.mark.slow
def test_parity_with_pcgrad():
    case, meta = read_case("pcgrad")
    assert "PCGrad" in meta["method"]
    for name in case["names"]:
        assert_same_projection(case, name)


def assert_same_projection(case, name):
    with jax.enable_x64(True):
        rows = jnp.asarray(case[f"{name}/J"])
        projected = project_conflicts(rows, jnp.asarray(case[f"{name}/perms"]))
        total = np.asarray(projected.sum(0))
        # Opposite rows cancel to rounding noise: measure against the rows, not against the result.
        scale = float(np.abs(rows).max()) or 1.0
        np.testing.assert_allclose(total / scale, case[f"{name}/pcgrad"] / scale, atol=1e-12)
        if len(rows) == 2:
            pair = harmonize(rows[0], rows[1], "two-way")[0]
            np.testing.assert_allclose(pair / scale, total / scale, atol=1e-12)
