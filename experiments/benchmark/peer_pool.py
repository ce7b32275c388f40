"""PyTorch's way to train a pool: one network after another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.benchmark.peer import peer_device
from experiments.benchmark.peer_nets import MLP
from experiments.benchmark.pools import Sizes, Training
from experiments.benchmark.timing import TORCH
from ltu_jax.training.supervised import train_steps
from ltu_jax.types import Dataset, Examples


def pool_trainings(threads: Sequence[int], dataset: Dataset, sizes: Sizes) -> dict[str, Training]:
    """Return the same loop for each number of threads; small networks may be faster with one.

    It is spared what ours does at every step: normalising the inputs and reading the loss.
    """
    device = peer_device()
    if device is None:
        return {}
    mean, std, recipe = np.float32(dataset.mean), np.float32(dataset.std), sizes.recipe

    def as_tensors(examples: Examples) -> tuple[Tensor, Tensor]:
        inputs = (examples.inputs.astype(np.float32) / 255 - mean) / std
        labels = torch.from_numpy(examples.labels).long()
        return torch.from_numpy(inputs).flatten(1).to(device), labels.to(device)

    inputs, labels = as_tensors(dataset.train)
    generator = torch.Generator().manual_seed(0)
    num_steps = train_steps(len(labels), recipe)
    per_epoch = num_steps // recipe.epochs

    def one() -> nn.Module:
        network = fresh_mlp(inputs.shape[1], dataset.num_classes, generator).to(device)
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for _ in range(recipe.epochs):
            order = torch.randperm(len(labels), generator=generator).to(device)
            for batch in order[: per_epoch * recipe.batch_size].split(recipe.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(network(inputs[batch]), labels[batch]).backward()
                optimizer.step()
                schedule.step()
        return network

    def in_turn(count: int) -> list[nn.Module]:
        torch.set_num_threads(count)
        networks = [one() for _ in range(sizes.singles)]
        if device == "cuda":
            torch.cuda.synchronize()
        return networks

    def accuracy(networks: list[nn.Module]) -> float:
        unseen, wanted = as_tensors(dataset.heldout)
        with torch.no_grad():
            right = [(network(unseen).argmax(-1) == wanted).float().mean() for network in networks]
        return float(torch.stack(right).mean())

    return {
        f"{TORCH}{count}": Training(sizes.singles, partial(in_turn, count), accuracy)
        for count in threads
    }


def fresh_mlp(num_inputs: int, num_classes: int, generator: Any) -> nn.Module:
    """Return the `mlp`, its first weights drawn as ours are."""
    net = MLP(num_inputs, num_classes)
    layers = list(net.children())
    for layer in layers:
        gain = "linear" if layer is layers[-1] else "relu"
        nn.init.kaiming_normal_(layer.weight, nonlinearity=gain, generator=generator)
        nn.init.zeros_(layer.bias)
    return net
