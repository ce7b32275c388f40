"""The LTU step and the random-label step in PyTorch, for the built-in networks.

Batches, losses, membership models, weights and update are those of the JAX step, up to rounding.
The PyTorch step omits image normalisation, diagnostics and the learning-rate schedule, and draws
all batches uniformly. Its Hessian product is reverse over reverse on the kept graph of the support
gradient, which in PyTorch is faster than `torch.func.jvp` of a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from experiments.performance.pytorch_networks import in_pytorch
from experiments.performance.steps import sgd_config
from experiments.performance.subjects import CLASSES, Subject
from experiments.performance.timing import TORCH, Way
from ltu_jax.types import Examples
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.membership import HUBER_DELTA, NUM_LARGEST, feature_names
from ltu_jax.unlearners.ltu.meta import InnerStep


class Batch(NamedTuple):
    """The examples of an LTU step, as tensors; see `ltu_jax.unlearners.ltu`."""

    support: tuple[Tensor, Tensor]
    audit: tuple[Tensor, Tensor]
    queries: tuple[Tensor, Tensor]
    teacher: Tensor


def as_tensor(array: Any, device: str) -> Tensor:
    """Return an array on the device."""
    return torch.from_numpy(np.array(array)).to(device)


class Network:
    """A network of `pytorch_networks` whose parameters are arguments, in evaluation mode."""

    def __init__(self, subject: Subject, device: str):
        self.module = in_pytorch(subject.model.name, subject.variables, CLASSES, device).eval()
        named = dict(self.module.named_parameters())
        self.names, self.params = list(named), list(named.values())
        self.has_statistics = subject.has_statistics

    def logits(self, params: Sequence[Tensor], images: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to `[B, classes]`."""
        return functional_call(self.module, dict(zip(self.names, params, strict=True)), (images,))

    @torch.no_grad()
    def update_statistics(self, images: Tensor) -> None:
        """Update BatchNorm's statistics by a training pass."""
        if self.has_statistics:
            self.module.train()
            self.module(images)
            self.module.eval()


def features(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Return a membership model's features `[B, d]`; see `ltu_jax.unlearners.ltu.membership`."""
    log_p = F.log_softmax(logits, -1)
    is_label = F.one_hot(labels, logits.shape[-1]) > 0

    def split(outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs.gather(-1, labels[:, None]), outputs.masked_fill(is_label, -torch.inf)

    true, others = split(log_p if name == "labelled" else logits)
    if name == "log_odds":
        return true - others.logsumexp(-1, keepdim=True)
    if name == "hinge":
        return true - others.amax(-1, keepdim=True)
    if name == "entropy":
        return -(log_p.exp() * log_p).sum(-1, keepdim=True)
    if name == "modified_entropy":
        p = log_p.exp()
        rest = torch.log1p(-p.clamp(max=1 - 1e-6))
        return -torch.where(is_label, (1 - p) * log_p, p * rest).sum(-1, keepdim=True)
    top = min(NUM_LARGEST, logits.shape[-1])
    if name == "sorted":
        return log_p.topk(top)[0]
    return torch.cat([true, others.topk(top - 1)[0]], -1)


def membership_losses(specs: Sequence[Any], ensemble: Any, logits: Tensor, labels: Tensor):
    """Return the matching loss `[K]` of each fitted membership model on a batch."""
    scores, heads = [], ensemble.heads
    names = feature_names(tuple(specs), logits.shape[-1])
    for k, spec in enumerate(specs):
        own = torch.from_numpy(names == spec.feature)
        x = (features(spec.feature, logits, labels) - heads.mean[own]) / heads.std[own]
        weights, h = heads.linear[k, own], spec.hidden
        if h:
            x = torch.tanh(x @ heads.hidden[k, :h][:, own].T + heads.hidden_bias[k, :h])
            weights = heads.out[k, :h]
        scores.append(x @ weights + heads.bias[k])
    distance = (torch.stack(scores).sort(-1)[0] - ensemble.target) / ensemble.unit[:, None]
    zero = torch.zeros_like(distance)
    return F.huber_loss(distance, zero, "none", delta=HUBER_DELTA).mean(-1) / HUBER_DELTA


def meta_gradient(
    tune: Callable, query: Callable, params: Sequence[Tensor], inner: InnerStep
) -> Tensor:
    """Return the exact flat gradient of one branch, as `ltu_jax.unlearners.ltu.meta` does."""
    grads = torch.autograd.grad(tune(params), params, create_graph=True)
    size = inner.lr * torch.clamp(inner.max_norm / _flat(grads).detach().norm(), max=1.0)
    adapted = [(p.detach() - size * g.detach()).requires_grad_() for p, g in zip(params, grads)]  # noqa: B905
    behind = torch.autograd.grad(query(adapted), adapted)
    curved = torch.autograd.grad(grads, params, grad_outputs=behind)
    return _flat(behind) - size * _flat(curved) + inner.tune_weight * _flat(grads).detach()


def harmonize(remember: Tensor, forget: Tensor) -> Tensor:
    """Return the sum of two flat gradients, each projected off the other where they conflict."""
    dot = (remember @ forget).clamp(max=0.0)
    return (
        remember
        - dot / (forget @ forget) * forget
        + forget
        - dot / (remember @ remember) * remember
    )


def ltu_step(
    network: Network, optimizer: Any, config: LTUConfig, ensemble: Any, batch: Batch, roles: Any
) -> None:
    """Take one LTU step in place; `roles` are the support and the query membership models."""
    specs = config.objective.specs

    def query_loss(params: Sequence[Tensor]) -> Tensor:
        logits, labels = network.logits(params, batch.queries[0]), batch.queries[1]
        t, share = config.temperature, config.distill
        soft = (F.log_softmax(x / t, -1) for x in (logits, batch.teacher))
        kl = F.kl_div(*soft, reduction="batchmean", log_target=True)
        return (1 - share) * F.cross_entropy(logits, labels) + share * t**2 * kl

    def membership(params: Sequence[Tensor], models: Tensor) -> Tensor:
        logits = network.logits(params, batch.audit[0])
        return membership_losses(specs, ensemble, logits, batch.audit[1])[models].mean()

    def random_labels(params: Sequence[Tensor]) -> Tensor:
        return F.cross_entropy(network.logits(params, batch.support[0]), batch.support[1])

    remember = meta_gradient(random_labels, query_loss, network.params, config.random_label_inner)
    forget = meta_gradient(
        partial(membership, models=roles[0]),
        partial(membership, models=roles[1]),
        network.params,
        config.membership_inner,
    )
    direction = harmonize(remember, config.forget_weight * forget)
    sizes = [p.numel() for p in network.params]
    for param, part in zip(network.params, direction.split(sizes), strict=True):
        param.grad = part.view_as(param)
    clip_grad_norm_(network.params, config.max_update_norm)
    optimizer.step()
    network.update_statistics(batch.queries[0])


def ltu_ways(threads: Sequence[int], subject: Subject, state: Any) -> Mapping[str, Way]:
    """Return the LTU step for each number of threads; `state` is that of the prepared JAX method.

    Empty without a device of JAX's kind.
    """
    device, config, sizes = _device(), subject.config, subject.images
    if device is None:
        return {}
    network = Network(subject, device)
    rate = {"lr": config.learning_rate, "momentum": config.momentum}
    optimizer = torch.optim.SGD(network.params, **rate)
    ensemble = jax.tree.map(partial(as_tensor, device=device), state.forgetting)
    forget, retain = (as_tensors(one, device) for one in subject.data[:2])
    teacher = torch.from_numpy(np.array(state.teacher)).to(device)

    def once() -> None:
        support, audit = (
            _draw(len(forget[0]), size, device) for size in (sizes.support, sizes.audit)
        )
        rows = _draw(len(retain[0]), sizes.queries, device)
        wrong = _wrong(forget[1][support])
        batch = Batch(
            (forget[0][support], wrong),
            (forget[0][audit], forget[1][audit]),
            (retain[0][rows], retain[1][rows]),
            teacher[rows],
        )
        specs, support = config.objective.specs, config.objective.support
        roles = torch.randperm(len(specs)).tensor_split([support])
        ltu_step(network, optimizer, config, ensemble, batch, roles)
        _wait(network)

    return by_threads(once, threads)


def sgd_ways(threads: Sequence[int], subject: Subject) -> Mapping[str, Way]:
    """Return the random-label step for each number of threads; see `ltu_ways`."""
    device, config = _device(), sgd_config(subject)
    if device is None:
        return {}
    network = Network(subject, device)
    network.module.train()
    rate = {name: getattr(config, name) for name in ("momentum", "weight_decay")}
    optimizer = torch.optim.SGD(network.params, lr=config.learning_rate, **rate)
    forget, retain = (as_tensors(one, device) for one in subject.data[:2])
    inputs, labels = torch.cat([forget[0], retain[0]]), torch.cat([_wrong(forget[1]), retain[1]])

    def once() -> None:
        rows = _draw(len(labels), config.batch_size, device)
        optimizer.zero_grad()
        logits = network.module(inputs[rows])
        F.cross_entropy(logits, labels[rows]).backward()
        optimizer.step()
        _wait(network)

    return by_threads(once, threads)


def as_tensors(examples: Examples, device: str) -> tuple[Tensor, Tensor]:
    """Return images `[N, C, H, W]` in [-2, 2], channels last in memory, and their labels."""
    inputs = (np.array(examples.inputs, np.float32) / 255 - 0.5) / 0.25
    images = torch.from_numpy(inputs).to(device).permute(0, 3, 1, 2)
    return images, torch.from_numpy(np.array(examples.labels)).long().to(device)


def by_threads(way: Way, threads: Sequence[int]) -> dict[str, Way]:
    """Return `way` with each number of threads, named `torch_1` and so on."""

    def run(number: int) -> None:
        torch.set_num_threads(number)
        way()

    return {f"{TORCH}{number}": partial(run, number) for number in threads}


def _device() -> str | None:
    """Return PyTorch's device of JAX's kind; on a GPU products may use TF32, as JAX's do."""
    if jax.default_backend() == "cpu":
        return "cpu"
    if jax.default_backend() != "gpu" or not torch.cuda.is_available():
        return None
    torch.set_float32_matmul_precision("high")
    return "cuda"


def _draw(total: int, size: int, device: str) -> Tensor:
    return torch.randperm(total, device=device)[:size]


def _wrong(labels: Tensor) -> Tensor:
    return (labels + torch.randint_like(labels, 1, CLASSES)) % CLASSES


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _wait(network: Network) -> None:
    float(network.params[0].detach().reshape(-1)[0])
