"""l1-sparse: the authors' run with the penalty it had in each epoch, and what a penalty does."""

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
from ltu_jax.unlearners.l1_sparse import L1SparseConfig, l1_sparse
from tests.unlearners.parity import Case, net


@pytest.mark.usefixtures("x64")
def test_follows_the_reference():
    case = Case("salun_l1sparse")
    config = L1SparseConfig(
        epochs=case.meta["unlearn_epochs"],
        batch_size=case.meta["batch_size"],
        penalty=case.meta["alpha"],
        unpenalised_epochs=case.meta["no_l1_epochs"],
    )
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    method = l1_sparse(net(), spec_of(case.data, case.meta["num_classes"]), config, tx=tx)
    assert method.num_steps == case["n_steps"]
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    sample, step = jax.jit(method.sample), jax.jit(method.step)
    trajectory, losses = [state.variables.params], []
    for t in range(method.num_steps):
        # The examples are the reference's, the penalty is our own.
        batch = sample(jax.random.key(0), jnp.asarray(t), state, case.data)
        batch = batch._replace(**case.batch(t)._asdict())
        added = batch.penalty * optax.tree.norm(state.variables.params, ord=1)
        state, info = step(jax.random.key(0), state, batch)
        trajectory.append(state.variables.params)
        losses.append(info["loss"] - added)
    case.assert_follows(trajectory)
    np.testing.assert_allclose(losses, case["steps/loss"], rtol=1e-9)


def small(num_retain=6):
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, 2)), jnp.float32),
                jnp.asarray(rng.integers(0, 3, size), jnp.int32),
            )
            for size in (1, num_retain, 2)
        )
    )


BLIND = from_functions(None, lambda p, x: jnp.zeros((len(x), 3)) + 0 * p["w"].sum(), name="blind")


@pytest.mark.parametrize(("unpenalised", "shares"), [(0, (1, 2 / 3, 1 / 3)), (1, (1, 1 / 2, 0))])
def test_weights_shrink_by_the_penalties_of_their_epochs(unpenalised, shares):
    data = small()
    config = L1SparseConfig(
        epochs=3,
        batch_size=4,
        learning_rate=0.1,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        penalty=0.5,
        unpenalised_epochs=unpenalised,
    )
    weights = jnp.asarray([2.0, -1.5, 0.0])
    method = l1_sparse(BLIND, spec_of(data, 3), config)
    result, _ = unlearn(method, Variables({"w": weights}, {}), data, key=jax.random.key(1))
    steps_per_epoch = 2
    shrunk = 0.1 * 0.5 * steps_per_epoch * sum(shares)
    wanted = weights - shrunk * np.array([1, -1, 0])
    np.testing.assert_allclose(result.params["w"], wanted, rtol=1e-6)
