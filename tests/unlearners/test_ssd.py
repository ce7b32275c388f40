"""Selective Synaptic Dampening: closed forms, what it must not do; parity is in `released`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ssd import LABEL_FREE, SSDConfig, dampen, importance, importances, ssd

LINEAR = from_functions(
    lambda key, x: jax.random.normal(key, (x.shape[1], 3)), lambda w, x: x @ w, name="linear"
)


IMPORTANCE = st.just(0.0) | st.floats(1e-9, 9)


def make_data(num_forget=5, num_retain=17, seed=0):
    rng = np.random.default_rng(seed)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(n, 4)), jnp.float32),
                jnp.asarray(rng.integers(3, size=n)),
            )
            for n in (num_forget, num_retain, 3)
        )
    )


def test_importances_are_those_of_single_examples_in_closed_form():
    examples = make_data().retain
    weights = LINEAR.init(jax.random.key(0), examples.inputs).params
    x, y = np.asarray(examples.inputs), np.asarray(examples.labels)
    logits = x @ np.asarray(weights)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    fisher = np.mean((x[:, :, None] * (p - np.eye(3)[y])[:, None]) ** 2, axis=0)
    norm = np.mean(np.abs(x[:, :, None] * (2 * logits)[:, None]), axis=0)
    for name, wanted in (("loss", fisher), ("output_norm", norm)):
        found = importance(LINEAR, Variables(weights, {}), examples, SSDConfig(importance=name))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_label_free_form_reads_no_labels():
    data = make_data()
    variables = LINEAR.init(jax.random.key(0), data.forget.inputs)
    method = LABEL_FREE.build(LINEAR, spec_of(data, 3), LABEL_FREE.config)
    blind = UnlearnData(*(Examples(part.inputs, jnp.zeros_like(part.labels)) for part in data))
    seen, _ = unlearn(method, variables, data, key=jax.random.key(0))
    unseen, _ = unlearn(method, variables, blind, key=jax.random.key(0))
    np.testing.assert_array_equal(seen.params, unseen.params)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(-9, 9), IMPORTANCE, IMPORTANCE),
        min_size=4,
        max_size=4,
    ),
    st.floats(0.5, 3),
    st.floats(0, 3),
)
def test_weights_shrink_only_where_selected(rows, alpha, damping):
    weight, forget, full = (jnp.asarray(column, jnp.float32) for column in zip(*rows))
    config = SSDConfig(selection_weighting=alpha, dampening_constant=damping)
    after = dampen(weight, forget, full, config)
    assert np.isfinite(after).all()
    assert np.all(np.abs(after) <= np.abs(weight))
    kept = ~(forget > jnp.float32(alpha) * full)
    np.testing.assert_array_equal(after[kept], weight[kept])


def test_one_forget_example_is_enough():
    data = make_data(num_forget=1)
    variables = LINEAR.init(jax.random.key(0), data.forget.inputs)
    unlearned, _ = unlearn(ssd(LINEAR, spec_of(data, 3)), variables, data, key=jax.random.key(0))
    found = importances(LINEAR, variables, data, SSDConfig())
    np.testing.assert_array_equal(unlearned.params, dampen(variables.params, *found, SSDConfig()))


def test_a_weighting_that_selects_nothing_is_refused():
    with pytest.raises(InputError, match=r"less than 4\.4") as refused:
        ssd(LINEAR, spec_of(make_data(), 3), SSDConfig(selection_weighting=10))
    assert refused.value.argument == "selection_weighting"
