"""The same LTU step and the same random-label step in plain PyTorch: what ours is held against.

The peer sees the same batches, losses, membership models and networks, and its update is ours up to
rounding. It is spared what ours does besides: normalising images, diagnostics, a learning rate
schedule and drawing queries by kind; it draws all batches uniformly.

The Hessian product is reverse over reverse, by a graph kept of the support's gradient: the one
graph serves step and product, and in PyTorch that is faster than `torch.func.jvp` of a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from experiments.benchmark.peer_heads import PeerHeads
from ltu_jax.types import Examples
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.meta import InnerStep
from ltu_jax.unlearners.random_label import RandomLabelConfig

Params = Sequence[Tensor]


class PeerBatch(NamedTuple):
    """What a step looks at; see `ltu_jax.unlearners.ltu.tasks.LTUBatch`."""

    support: Tensor
    support_labels: Tensor
    audit: Tensor
    audit_labels: Tensor
    queries: Tensor
    query_labels: Tensor
    teacher: Tensor


class LTUPeer:
    """LTU on one network, which `step` changes in place."""

    def __init__(self, net: nn.Module, heads: PeerHeads, config: LTUConfig):
        self.net, self.heads, self.config = net.eval(), heads, config
        self.names = [name for name, _ in net.named_parameters()]
        self.params = list(net.parameters())
        self.has_statistics = bool(list(net.buffers()))
        self.optimizer = torch.optim.SGD(
            self.params, lr=config.learning_rate, momentum=config.momentum
        )

    def step(self, batch: PeerBatch, support: Tensor, query: Tensor) -> float:
        """Take one step; `support` and `query` say which membership models play which role."""
        config = self.config
        remember = meta_gradient(
            lambda params: F.cross_entropy(
                self._logits(params, batch.support), batch.support_labels
            ),
            lambda params: self._query_loss(params, batch),
            self.params,
            config.random_label_inner,
            config.tune_weight,
        )
        forget = meta_gradient(
            lambda params: self._membership(params, batch)[support].mean(),
            lambda params: self._membership(params, batch)[query].mean(),
            self.params,
            config.membership_inner,
            config.membership_tune_weight,
        )
        direction = harmonize(_flat(remember), config.forget_weight * _flat(forget))
        for param, grad in zip(
            self.params, direction.split([p.numel() for p in self.params]), strict=True
        ):
            param.grad = grad.view_as(param)
        norm = nn.utils.clip_grad_norm_(self.params, config.max_update_norm)
        self.optimizer.step()
        if self.has_statistics:
            self._refresh_statistics(batch.queries)
        return float(norm)  # waits for the device

    def _logits(self, params: Params, inputs: Tensor) -> Tensor:
        return functional_call(self.net, dict(zip(self.names, params, strict=True)), (inputs,))

    def _query_loss(self, params: Params, batch: PeerBatch) -> Tensor:
        share, temperature = self.config.distill, self.config.temperature
        logits = self._logits(params, batch.queries)
        softened = (F.log_softmax(x / temperature, -1) for x in (logits, batch.teacher))
        kl = F.kl_div(*softened, reduction="batchmean", log_target=True)
        return (1 - share) * F.cross_entropy(logits, batch.query_labels) + (
            share * temperature**2 * kl
        )

    def _membership(self, params: Params, batch: PeerBatch) -> Tensor:
        return self.heads.losses(self._logits(params, batch.audit), batch.audit_labels)

    @torch.no_grad()
    def _refresh_statistics(self, inputs: Tensor) -> None:
        self.net.train()
        self.net(inputs)
        self.net.eval()


def meta_gradient(
    tune_loss: Callable[[Params], Tensor],
    query_loss: Callable[[Params], Tensor],
    params: Params,
    inner: InnerStep,
    tune_weight: float,
) -> list[Tensor]:
    """Return the exact gradient of one branch, as `meta_gradient` does."""
    grads = torch.autograd.grad(tune_loss(params), params, create_graph=True)
    norm = torch.linalg.vector_norm(_flat(grads).detach())
    size = inner.lr * torch.clamp(inner.max_norm / norm, max=1.0)
    adapted = [
        (param.detach() - size * grad.detach()).requires_grad_()
        for param, grad in zip(params, grads, strict=True)
    ]
    behind = torch.autograd.grad(query_loss(adapted), adapted)
    curved = torch.autograd.grad(grads, params, grad_outputs=behind)
    return [
        v - size * h + tune_weight * g.detach()
        for v, h, g in zip(behind, curved, grads, strict=True)
    ]


def harmonize(remember: Tensor, forget: Tensor) -> Tensor:
    """Return the sum of two flat gradients, each projected off the other where they conflict."""
    against = torch.dot(remember, forget).clamp(max=0.0)
    return (
        remember
        - against / torch.dot(forget, forget) * forget
        + forget
        - against / torch.dot(remember, remember) * remember
    )


class SGDPeer:
    """Random labels as the field's code runs them: SGD, BatchNorm in training mode."""

    def __init__(self, net: nn.Module, config: RandomLabelConfig):
        self.net = net.train()
        self.optimizer = torch.optim.SGD(
            net.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """Take one step."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(inputs), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())  # waits for the device


def as_tensors(examples: Examples, device: str) -> tuple[Tensor, Tensor]:
    """Return images `[N, C, H, W]` in [-2, 2], channels last in memory, and their labels."""
    inputs = (np.array(examples.inputs, np.float32) / 255 - 0.5) / 0.25
    images = torch.from_numpy(inputs).to(device).permute(0, 3, 1, 2)
    return images, torch.from_numpy(np.array(examples.labels)).long().to(device)


def peer_device() -> str | None:
    """Return the device of PyTorch that is the one of JAX; None where there is none to compare.

    On a GPU PyTorch may round the factors of a product as JAX does by default (TF32).
    """
    if jax.default_backend() == "cpu":
        return "cpu"
    if jax.default_backend() != "gpu" or not torch.cuda.is_available():
        return None
    torch.set_float32_matmul_precision("high")
    return "cuda"


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
