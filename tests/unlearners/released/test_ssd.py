"""Selective Synaptic Dampening as released: importances from gradients of batch means."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Variables
from ltu_jax.unlearners.fisher import sum_over_batches
from ltu_jax.unlearners.sampling import batches_per_pass, concatenate
from ltu_jax.unlearners.ssd import SSDConfig, dampen, importances
from tests.unlearners.parity import Case, net


def config_of(case):
    names = ("dampening_constant", "selection_weighting", "exponent", "lower_bound")
    return SSDConfig(**{name: case.meta[name] for name in names})


def batch_importance(variables, examples, batch_size):
    """Not the Fisher information: what examples of a batch disagree on cancels before squaring."""

    def loss_fn(params, batch):
        logits, _ = net().apply(Variables(params, variables.state), batch.inputs)
        return cross_entropy(logits, batch.labels).mean()

    def squares(params, batch):
        return jax.tree.map(jnp.square, jax.grad(loss_fn)(params, batch))

    total = sum_over_batches(squares, variables.params, examples, batch_size)
    count = batches_per_pass(len(examples.labels), batch_size)
    return jax.tree.map(lambda x: x / count, total)


def assert_importances(case, prefix, found):
    for name, tree in zip(("imp_forget", "imp_full"), found):
        wanted = case[prefix + name]
        case.assert_close(tree, wanted, movement=wanted.max())


def assert_dampened(case, name, params):
    case.assert_close(params, case[name], np.abs(case[name] - case["init_flat"]).max())


@pytest.mark.usefixtures("x64")
def test_dampening_follows_the_reference():
    case, variables = Case("ssd"), Case("ssd").variables()
    config, data = config_of(case), case.data
    sets = (data.forget, concatenate(data.retain, data.forget))
    found = [batch_importance(variables, part, case.meta["batch_size"]) for part in sets]
    assert_importances(case, "", found)
    assert_dampened(case, "dampened", dampen(variables.params, *found, config))
    others = [name for name in case.arrays if name.startswith("dampened_")]
    assert others
    for name in others:
        exponent, bound = map(float, re.fullmatch(r"dampened_exp(.+)_lb(.+)", name).groups())
        other = replace(config, exponent=exponent, lower_bound=bound)
        assert_dampened(case, name, dampen(variables.params, *found, other))


@pytest.mark.usefixtures("x64")
def test_importances_follow_the_reference_with_batches_of_one():
    case, variables = Case("ssd"), Case("ssd").variables()
    config = config_of(case)
    found = importances(net(), variables, case.data, config)
    assert_importances(case, "bs1_", found)
    assert_dampened(case, "bs1_dampened", dampen(variables.params, *found, config))
