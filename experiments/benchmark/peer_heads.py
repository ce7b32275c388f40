"""The membership models' losses in PyTorch, from the same fitted weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ltu_jax.unlearners.ltu.membership import ROUNDING, TOP, Ensemble, MembershipSpec


class PeerHeads:
    """Fitted membership models; see `ltu_jax.unlearners.ltu.membership.membership_losses`."""

    def __init__(self, specs: Sequence[MembershipSpec], ensemble: Ensemble, device: str):
        def tensor(array: jax.Array) -> Tensor:
            return torch.from_numpy(np.array(array)).to(device)

        self.specs = specs
        self.heads = jax.tree.map(tensor, ensemble.heads)
        self.target, self.unit = tensor(ensemble.target), tensor(ensemble.unit)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the matching loss `[K]` of every membership model on a batch."""
        scores = []
        for spec, head in zip(self.specs, self.heads, strict=True):
            features = (FEATURES[spec.feature](logits, labels) - head.mean) / head.std
            if spec.hidden:
                features = torch.tanh(features @ head.weights["in"] + head.weights["in_bias"])
            scores.append(features @ head.weights["out"] + head.weights["bias"])
        ordered = torch.stack(scores).sort(-1)[0]
        distance = (ordered - self.target) / self.unit[:, None]
        losses = F.huber_loss(distance, torch.zeros_like(distance), "none", delta=ROUNDING)
        return losses.mean(-1) / ROUNDING


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ln p_y - ln(1 - p_y), `[B, 1]`."""
    true, others = _split(logits, labels)
    return true - others.logsumexp(-1, keepdim=True)


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the entropy of the prediction in nats, `[B, 1]`."""
    del labels
    log_p = F.log_softmax(logits, -1)
    return -(log_p.exp() * log_p).sum(-1, keepdim=True)


def modified_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the corrected modified entropy, `[B, 1]`."""
    log_p = F.log_softmax(logits, -1)
    p = log_p.exp()
    log_rest = torch.log1p(-p.clamp(max=1 - 1e-6))
    is_label = F.one_hot(labels, logits.shape[-1]) > 0
    return -torch.where(is_label, (1 - p) * log_p, p * log_rest).sum(-1, keepdim=True)


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the true logit less the largest other one, `[B, 1]`."""
    true, others = _split(logits, labels)
    return true - others.amax(-1, keepdim=True)


def sorted_outputs(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest log-probabilities in descending order, `[B, min(C, 5)]`."""
    del labels
    return F.log_softmax(logits, -1).topk(min(TOP, logits.shape[-1]))[0]


def labelled_outputs(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log-probabilities, the true class first and the others sorted, `[B, min(C, 5)]`."""
    true, others = _split(F.log_softmax(logits, -1), labels)
    return torch.cat([true, others.topk(min(TOP, logits.shape[-1]) - 1)[0]], -1)


def _split(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true class's outputs `[B, 1]`, and `[B, C]` with minus infinity in its place."""
    is_label = F.one_hot(labels, outputs.shape[-1]) > 0
    return outputs.gather(-1, labels[:, None]), outputs.masked_fill(is_label, -torch.inf)


FEATURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log_odds": log_odds,
    "entropy": entropy,
    "modified_entropy": modified_entropy,
    "hinge": hinge,
    "sorted": sorted_outputs,
    "labelled": labelled_outputs,
}
