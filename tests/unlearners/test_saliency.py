"""Weight saliency: the authors' masks, and the closed form on a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.models import from_functions
from ltu_jax.types import Examples, Variables
from ltu_jax.unlearners.saliency import largest, saliency, saliency_mask
from tests.unlearners.masks import (
    CASES,
    assert_same_off_ties,
    forget_in_mask_order,
    mask_batch_size,
    stored_mask,
    stored_shares,
)
from tests.unlearners.parity import Case, net


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_masks_equal_the_reference_except_at_ties(name):
    case = Case(name)
    args = net(), case.variables(), forget_in_mask_order(case)
    scores = saliency(*args, mask_batch_size(case))
    for prefix, share in stored_shares(case).items():
        mask, wanted = (case.flat(m) for m in (largest(scores, share), stored_mask(case, prefix)))
        assert_same_off_ties(mask, wanted, case.flat(scores))
    masks = saliency_mask(*args, share, mask_batch_size(case)), largest(scores, share)
    np.testing.assert_array_equal(*(case.flat(mask) for mask in masks))


def test_saliency_is_the_closed_form_of_a_linear_model():
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    labels = jnp.asarray([0, 1, 2, 0, 1])
    params = {
        "kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=3), jnp.float32),
    }
    model = from_functions(None, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")
    logits = inputs @ params["kernel"] + params["bias"]
    errors = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)
    # Batches of 2, 2 and 1: the last example counts twice.
    errors = errors * jnp.asarray([0.5, 0.5, 0.5, 0.5, 1.0])[:, None]
    scores = saliency(model, Variables(params, {}), Examples(inputs, labels), batch_size=2)
    np.testing.assert_allclose(scores["kernel"], np.abs(inputs.T @ errors), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores["bias"], np.abs(errors.sum(0)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_largest_ranks_all_arrays_together(share):
    scores = {"a": jnp.asarray([[9.0, 1.0], [3.0, 7.0]]), "b": jnp.asarray([8.0, 2.0, 0.0, 0.0])}
    marked = largest(scores, share)
    assert jax.tree.map(jnp.shape, marked) == jax.tree.map(jnp.shape, scores)
    kept = np.concatenate([np.asarray(scores[n])[np.asarray(marked[n])].ravel() for n in "ab"])
    assert sorted(kept, reverse=True) == [9, 8, 7, 3, 2, 1, 0, 0][: int(8 * share)]
