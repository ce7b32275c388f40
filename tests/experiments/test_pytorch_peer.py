"""The PyTorch steps are those of JAX: same networks, same LTU update, up to rounding."""

import jax
import numpy as np
import optax
import pytest

from experiments.performance.subjects import CLASSES, MODELS, subject
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.algorithm import ltu, split_tasks
from tests import tiny

pytestmark = pytest.mark.experiments

torch = pytest.importorskip("torch")
peer = pytest.importorskip("experiments.performance.pytorch_peer")

SMALL = 1 / 64


@pytest.mark.parametrize("name", MODELS)
def test_networks_are_the_same(name):
    small = subject(name, SMALL)
    net = peer.Network(small, "cpu")
    examples = jax.tree.map(lambda x: x[:2], small.data.forget)

    def loss(params):
        logits, _ = small.model.apply(Variables(params, small.variables.state), examples.inputs)
        return cross_entropy(logits, examples.labels).mean(), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(small.variables.params)
    images, labels = peer.as_tensors(examples, "cpu")
    theirs = net.logits(net.params, images)
    np.testing.assert_allclose(theirs.detach(), logits, rtol=1e-4, atol=1e-4)
    torch.nn.functional.cross_entropy(theirs, labels).backward()
    norm = float(torch.cat([param.grad.reshape(-1) for param in net.params]).norm())
    assert norm == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-3)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_ltu_step_is_the_same(name):
    small = subject(name, SMALL)
    if name != "mlp":
        small = small._replace(config=tiny.TINY_LTU)  # less to compile
    config = small.config
    method = ltu(small.model, spec_of(small.data, CLASSES), config)
    key = jax.random.key(1)
    state = method.prepare(key, small.variables, small.data)
    batch = method.sample(key, 0, state, small.data)
    after, info = jax.jit(method.step)(key, state, batch)
    assert float(info["norm_forget"]) > 0

    network = peer.Network(small, "cpu")
    images, _ = peer.as_tensors(batch.queries, "cpu")
    logits, _ = small.model.apply(small.variables, batch.queries.inputs)
    theirs = network.logits(network.params, images)
    np.testing.assert_allclose(theirs.detach(), logits, rtol=1e-4, atol=1e-4)

    before = [param.detach().clone() for param in network.params]
    roles = split_tasks(key, len(config.objective.specs), config.objective.support)
    peer.ltu_step(
        network,
        torch.optim.SGD(network.params, lr=config.learning_rate, momentum=config.momentum),
        config,
        jax.tree.map(lambda array: peer.as_tensor(array, "cpu"), state.forgetting),
        peer.Batch(
            *(peer.as_tensors(part, "cpu") for part in (batch.support, batch.audit, batch.queries)),
            peer.as_tensor(batch.teacher, "cpu"),
        ),
        [torch.from_numpy(np.array(rows)).long() for rows in roles],
    )
    expected = peer.Network(
        small._replace(variables=Variables(after.variables.params, after.variables.state)), "cpu"
    )
    for ours, found, start in zip(expected.params, network.params, before):
        moved = (ours - start).detach().abs().max()
        assert float((found - ours).detach().abs().max()) < 1e-3 * float(moved)


def test_conflicting_gradients_are_projected():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(peer.harmonize(one, other), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(peer.harmonize(one, one), 2 * one)


@pytest.mark.parametrize("ways", ["ltu_ways", "sgd_ways"])
def test_steps_run_with_each_number_of_threads(ways):
    small = subject("mlp", SMALL)._replace(config=tiny.TINY_LTU)
    extra = ()
    if ways == "ltu_ways":
        method = ltu(small.model, spec_of(small.data, CLASSES), small.config)
        extra = (method.prepare(jax.random.key(0), small.variables, small.data),)
    found = getattr(peer, ways)((1, 2), small, *extra)
    assert set(found) == {"torch_1", "torch_2"}
    found["torch_2"]()
    assert torch.get_num_threads() == 2
