"""Influence unlearning as Fan et al. 2024 release it: the WoodFisher recursion.

It was meant to invert the Fisher information. But it keeps deflating the first example's gradient
where it should take each example's, so that the step is nearly the plain gradient.
"""

import jax
import numpy as np
import optax
import pytest

from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Variables
from ltu_jax.unlearners.gradient_method import keep_where
from ltu_jax.unlearners.influence import risk_shift
from ltu_jax.unlearners.sampling import take
from tests.unlearners.parity import Case, net


def woodfisher(variables, shift, examples, num_samples):
    """The recursion's vector k over the first examples, in order."""

    @jax.jit
    def gradient(params, example):
        def loss_fn(params):
            logits, _ = net().apply(Variables(params, variables.state), example.inputs)
            return cross_entropy(logits, example.labels).sum()

        return jax.grad(loss_fn)(params)

    change, deflated = shift, optax.tree.zeros_like(shift)
    # The reference stops after the example whose index exceeds N.
    for i in range(min(num_samples + 2, len(examples.labels))):
        grads = gradient(variables.params, take(examples, np.array([i])))
        overlap = optax.tree.vdot(deflated, grads)
        share = optax.tree.vdot(change, grads) / (num_samples + overlap)
        change = optax.tree.add_scale(change, -share, deflated)
        deflated = optax.tree.scale(1 - overlap / (num_samples + overlap), deflated)
        deflated = deflated if i else grads
    return change


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("salun_wfisher")
    variables, data, alpha = case.variables(), case.data, case.meta["alpha"]
    shift = risk_shift(net(), variables, data, case.meta["batch_size"])
    case.assert_close(shift, case["woodfisher/v"], np.abs(case["woodfisher/v"]).max())
    change = woodfisher(variables, shift, data.retain, case.meta["N"])
    case.assert_close(change, case["woodfisher/k"], np.abs(case["woodfisher/k"]).max())
    params = optax.tree.add_scale(variables.params, alpha, change)
    case.assert_follows([variables.params, params])
    masked = keep_where(case.tree("mask"), change)
    params = optax.tree.add_scale(variables.params, alpha, masked)
    wanted = case["final_masked"]
    case.assert_close(params, wanted, np.abs(wanted - case["traj"][0]).max())
