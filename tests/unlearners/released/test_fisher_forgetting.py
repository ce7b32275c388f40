"""Fisher forgetting as Fan et al. 2024 release it, in two forms that both differ from the paper."""

import jax
import jax.numpy as jnp
import pytest

from ltu_jax.types import Variables
from ltu_jax.unlearners.fisher import sum_over_batches, sum_over_examples
from ltu_jax.unlearners.fisher_forgetting import expected_squares, noise_variance, perturb
from ltu_jax.unlearners.sampling import batches_per_pass
from tests.unlearners.parity import Case, net

BATCH_SIZE = 32  # a constant of their `fisher_new`


def fisher(variables, retain, alpha):
    """Information of the given labels; the deviation is at most 1e-3, or 1e-2 in the last layer."""

    def squares(params, batch):
        def log_prob(params):
            logits, _ = net().apply(Variables(params, variables.state), batch.inputs)
            return jax.nn.log_softmax(logits)[0, batch.labels[0]]

        return jax.tree.map(lambda g: (g + 1e-8) ** 2, jax.grad(log_prob)(params))

    total = sum_over_examples(squares, variables.params, retain)
    information = jax.tree.map(lambda x: x / len(retain.labels), total)
    return information, jax.tree.map(lambda f: variance_of(f, alpha), information)


def variance_of(f, alpha):
    variance = jnp.minimum(alpha / f, 1e-6)
    # They take 10 entries along torch's last axis (OIHW, OI) for the last layer, however many
    # classes there are. Flax keeps this axis third to last, or first.
    last = f.ndim > 0 and f.shape[max(f.ndim - 3, 0)] == 10
    return 100 * variance if last else variance


def fisher_new(variables, retain, alpha, num_classes):
    """Expected gradients are averaged over 32 examples before squaring, where much cancels."""
    squares = expected_squares(net(), variables.state)
    total = sum_over_batches(squares, variables.params, retain, BATCH_SIZE)
    count = batches_per_pass(len(retain.labels), BATCH_SIZE)
    information = jax.tree.map(lambda x: x / count, total)
    return information, noise_variance(information, num_classes, alpha)


def assert_follows(case, name, variables, information, variance):
    case.assert_close(information, case[name], case[name].max())
    if "var" in case:
        case.assert_close(variance, case["var"], case["var"].max())
    params = perturb(variables.params, variance, case.from_flat(case["eps"]))
    case.assert_follows([variables.params, params])


@pytest.mark.usefixtures("x64")
def test_fisher_follows_the_reference():
    case = Case("salun_fisher")
    variables = case.variables()
    parts = fisher(variables, case.data.retain, case.meta["alpha"])
    assert_follows(case, "fisher", variables, *parts)


@pytest.mark.usefixtures("x64")
def test_fisher_new_follows_the_reference():
    case = Case("salun_fisher_new")
    variables, meta = case.variables(), case.meta
    parts = fisher_new(variables, case.data.retain, meta["alpha"], meta["num_classes"])
    assert_follows(case, "grad2_acc", variables, *parts)
