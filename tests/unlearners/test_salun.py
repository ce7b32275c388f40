"""SalUn: the authors' runs before and after their fix, and that masked weights stay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.gradient_method import keep_where
from ltu_jax.unlearners.random_label import RandomLabelBatch, random_label
from ltu_jax.unlearners.saliency import saliency
from ltu_jax.unlearners.salun import SalUnConfig, salun
from tests.unlearners.masks import (
    assert_same_off_ties,
    forget_in_mask_order,
    mask_batch_size,
    stored_mask,
    stored_shares,
)
from tests.unlearners.parity import PADDING, Case, net

CLASSES = 3
LINEAR = from_functions(None, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")


def masking(mask):
    """Return the transformation that masks gradients, as the released code did until 2026."""
    return optax.stateless(lambda grads, _: keep_where(mask, grads))


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("salun_salun_seq", True),
        ("salun_salun_joint", True),
        ("salun_salun_prefix", False),
    ],
)
@pytest.mark.usefixtures("x64")
def test_follows_the_reference(name, frozen):
    case = Case(name)
    data = case.data._replace(forget=forget_in_mask_order(case))
    config = SalUnConfig(
        share=stored_shares(case)["mask"],
        batch_size=mask_batch_size(case),
    )
    mask = stored_mask(case)
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    tx = tx if frozen else optax.chain(masking(mask), tx)
    method = salun(net(), spec_of(data, case.meta["num_classes"]), config, tx=tx)
    state = method.prepare(jax.random.key(0), case.variables(), data)

    scores = saliency(net(), case.variables(), data.forget, config.batch_size)
    assert_same_off_ties(*(case.flat(tree) for tree in (state.trainable_mask, mask, scores)))
    state = state._replace(trainable_mask=mask if frozen else None)

    step = jax.jit(method.step)
    trajectory, losses = [state.variables.params], []
    for t in range(case["n_steps"]):
        sets = case["steps/set"][t]
        batch = RandomLabelBatch(*case.batch(t), jnp.asarray(sets[sets != PADDING] == 1), None)
        state, info = step(jax.random.key(0), state, batch)
        trajectory.append(state.variables.params)
        losses.append(info["loss"])
    case.assert_follows(trajectory)
    np.testing.assert_allclose(losses, case["steps/loss"], rtol=1e-9)

    first, last = (case.flat(params) for params in (trajectory[0], trajectory[-1]))
    drift = np.abs(last - first)[~case.flat(mask)].max(initial=0)
    if frozen:
        assert drift == 0 == case["masked_drift_max"]
    else:
        assert drift > 0
        np.testing.assert_allclose(drift, case["masked_drift_max"], rtol=1e-6)


def make_data():
    rng = np.random.default_rng(0)
    sets = [
        Examples(jnp.asarray(rng.normal(size=(n, 4)), jnp.float32), jnp.arange(n) % CLASSES)
        for n in (6, 14, 4)
    ]
    return UnlearnData(*sets)


def make_variables():
    kernel = jax.random.normal(jax.random.key(0), (4, CLASSES))
    return Variables({"kernel": kernel, "bias": jnp.arange(1.0, CLASSES + 1)}, {})


def run(build, config):
    data = make_data()
    method = build(LINEAR, spec_of(data, CLASSES), config)
    return unlearn(method, make_variables(), data, key=jax.random.key(1))[0]


OPTIONS = {"epochs": 2, "batch_size": 5, "weight_decay": 0.1, "schedule": "constant"}


def test_masked_weights_stay_under_momentum_and_decay():
    result = run(salun, SalUnConfig(share=0.4, **OPTIONS))
    moved = jax.tree.map(jnp.not_equal, result.params, make_variables().params)
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(moved)) == int(15 * 0.4)


def test_share_of_one_is_random_labels():
    config = SalUnConfig(share=1.0, **OPTIONS)
    one, other = run(salun, config), run(random_label, config)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
