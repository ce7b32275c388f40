"""The PyTorch peer is honest: the same networks, and the same LTU step, up to rounding."""

import jax
import numpy as np
import optax
import pytest

from experiments.benchmark import pools
from experiments.benchmark.subjects import CLASSES, MODELS, subject
from ltu_jax.data import load
from ltu_jax.models import count_params
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import Recipe, recipe_for
from ltu_jax.types import Variables
from ltu_jax.unlearners.ltu.algorithm import ltu, split_tasks
from tests import tiny

torch = pytest.importorskip("torch")
peer = pytest.importorskip("experiments.benchmark.peer")
peer_heads = pytest.importorskip("experiments.benchmark.peer_heads")
peer_nets = pytest.importorskip("experiments.benchmark.peer_nets")
peer_pool = pytest.importorskip("experiments.benchmark.peer_pool")
peer_ways = pytest.importorskip("experiments.benchmark.peer_ways")

SMALL = 1 / 64


@pytest.mark.parametrize("name", MODELS)
def test_networks_are_the_same(name):
    small = subject(name, SMALL)
    net = peer_nets.peer_net(name, small.variables, "cpu").eval()
    assert sum(p.numel() for p in net.parameters()) == count_params(small.variables)
    examples = jax.tree.map(lambda x: x[:2], small.data.forget)
    images, labels = peer.as_tensors(examples, "cpu")

    @jax.jit
    def ours(params):
        def loss(params):
            logits, _ = small.model.apply(Variables(params, small.variables.state), examples.inputs)
            return cross_entropy(logits, examples.labels).mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        return logits, optax.tree.norm(gradient)

    logits, norm = ours(small.variables.params)
    theirs = net(images)
    np.testing.assert_allclose(theirs.detach(), logits, rtol=1e-4, atol=1e-4)
    torch.nn.functional.cross_entropy(theirs, labels).backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in net.parameters()])
    assert float(gradient.norm()) == pytest.approx(float(norm), rel=1e-3)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_ltu_step_is_the_same(name):
    small = subject(name, SMALL)
    if name != "mlp":
        small = small._replace(config=tiny.TINY_LTU)  # less to compile
    config = small.config
    method = ltu(small.model, small.data, CLASSES, config)
    key = jax.random.key(1)
    state = method.prepare(key, small.variables, small.data)
    batch = method.sample(key, 0, state, small.data)
    after, info = jax.jit(method.step)(key, state, batch)

    net = peer_nets.peer_net(name, small.variables, "cpu")
    theirs = peer.LTUPeer(net, peer_heads.PeerHeads(config.membership, state.models, "cpu"), config)
    support, query = (
        torch.from_numpy(np.array(rows)).long()
        for rows in split_tasks(key, len(config.membership), config.membership_support)
    )
    theirs.step(
        peer.PeerBatch(
            *peer.as_tensors(batch.support, "cpu"),
            *peer.as_tensors(batch.audit, "cpu"),
            *peer.as_tensors(batch.queries, "cpu"),
            torch.from_numpy(np.array(batch.teacher)),
        ),
        support,
        query,
    )
    assert float(info["norm_forget"]) > 0
    expected = peer_nets.peer_net(name, after.variables, "cpu")
    before = peer_nets.peer_net(name, small.variables, "cpu")
    for ours, found, start in zip(
        expected.parameters(), net.parameters(), before.parameters(), strict=True
    ):
        moved = (ours - start).detach().abs().max()
        assert float((found - ours).detach().abs().max()) < 1e-3 * float(moved)


def test_conflicting_gradients_are_projected():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(peer.harmonize(one, other), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(peer.harmonize(one, one), 2 * one)


@pytest.mark.parametrize("ways", ["ltu_ways", "sgd_ways"])
def test_steps_move_the_peer_in_channels_last(ways, monkeypatch):
    small = subject("resnet20", SMALL)._replace(config=tiny.TINY_LTU)
    nets = []
    monkeypatch.setattr(
        peer_ways,
        "peer_net",
        lambda *arguments: nets.append(peer_nets.peer_net(*arguments)) or nets[-1],
    )
    extra = ()
    if ways == "ltu_ways":
        method = ltu(small.model, small.data, CLASSES, small.config)
        extra = (method.prepare(jax.random.key(0), small.variables, small.data),)
    found = getattr(peer_ways, ways)((1, 2), small, *extra)
    assert set(found) == {"torch_1", "torch_2"}
    (net,) = nets
    before = [value.clone() for value in net.state_dict().values()]
    layouts = []
    net.Conv_0.register_forward_hook(
        lambda module, inputs, outputs: layouts.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    found["torch_2"]()
    assert torch.get_num_threads() == 2
    assert layouts
    assert all(layouts)
    after = net.state_dict().values()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_pool_trainings_learn():
    sizes = pools.Sizes(members=(1,), singles=1, recipe=Recipe(epochs=4))
    found = peer_pool.pool_trainings((1,), load("digits"), sizes)
    way = found["torch_1"]
    (network,) = way.train()
    shapes = [tuple(p.shape) for p in network.parameters()]
    assert shapes == [(128, 64), (128,), (128, 128), (128,), (10, 128), (10,)]
    assert recipe_for("mlp").batch_size == sizes.recipe.batch_size
    assert way.accuracy([network]) > 0.8
