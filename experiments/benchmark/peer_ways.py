"""PyTorch's ways to take the steps of `steps`, ready to be timed beside ours.

Each is there for every number of threads: where a step is small or the machine busy, one thread
may be faster than many, and ours is held against the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from experiments.benchmark.peer import LTUPeer, PeerBatch, SGDPeer, as_tensors, peer_device
from experiments.benchmark.peer_heads import PeerHeads
from experiments.benchmark.peer_nets import peer_net
from experiments.benchmark.steps import sgd_config
from experiments.benchmark.subjects import CLASSES, Subject
from experiments.benchmark.timing import TORCH, Way
from ltu_jax.unlearners.ltu.tasks import LTUState


def ltu_ways(threads: Sequence[int], subject: Subject, state: LTUState) -> Mapping[str, Way]:
    """Return one LTU step, drawing its batch included; nothing where JAX's device is another.

    Args:
      threads: the numbers of threads.
      subject: see `Subject`.
      state: of LTU, prepared: its membership models and teacher are the peer's too.
    """
    device = peer_device()
    if device is None:
        return {}
    config, sizes = subject.config, subject.images
    peer = LTUPeer(
        peer_net(subject.model.name, subject.variables, device),
        PeerHeads(config.membership, state.models, device),
        config,
    )
    forget, forget_labels = as_tensors(subject.data.forget, device)
    retain, retain_labels = as_tensors(subject.data.retain, device)
    teacher = torch.from_numpy(np.array(state.teacher)).to(device)

    def once() -> None:
        support, audit = (
            torch.randperm(len(forget), device=device)[:size]
            for size in (sizes.support, sizes.audit)
        )
        queries = torch.randperm(len(retain), device=device)[: sizes.queries]
        shift = torch.randint(1, CLASSES, (sizes.support,), device=device)
        batch = PeerBatch(
            forget[support],
            (forget_labels[support] + shift) % CLASSES,
            forget[audit],
            forget_labels[audit],
            retain[queries],
            retain_labels[queries],
            teacher[queries],
        )
        order = torch.randperm(len(config.membership))
        peer.step(batch, order[: config.membership_support], order[config.membership_support :])

    return by_threads(once, threads)


def sgd_ways(threads: Sequence[int], subject: Subject) -> Mapping[str, Way]:
    """Return one random-label step, drawing its batch included; see `ltu_ways`."""
    device = peer_device()
    if device is None:
        return {}
    config = sgd_config(subject)
    peer = SGDPeer(peer_net(subject.model.name, subject.variables, device), config)
    forget, retain = subject.data.forget, subject.data.retain
    inputs, labels = (
        torch.cat(parts)
        for parts in zip(as_tensors(forget, device), as_tensors(retain, device), strict=True)
    )
    shift = torch.randint(1, CLASSES, (len(forget.labels),), device=device)
    labels[: len(shift)] = (labels[: len(shift)] + shift) % CLASSES

    def once() -> None:
        rows = torch.randperm(len(labels), device=device)[: config.batch_size]
        peer.step(inputs[rows], labels[rows])

    return by_threads(once, threads)


def by_threads(way: Way, threads: Sequence[int]) -> dict[str, Way]:
    """Return `way` with each number of threads, by the names of `torch_1` and so on."""

    def run(count: int) -> None:
        torch.set_num_threads(count)
        way()

    return {f"{TORCH}{count}": partial(run, count) for count in threads}
