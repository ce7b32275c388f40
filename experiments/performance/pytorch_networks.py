"""The built-in networks in PyTorch, layer for layer, under the names that Flax gives them.

Images are `[B, C, H, W]`, channels last in memory, which is fastest with oneDNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ltu_jax.types import Variables


class Convolution(nn.Conv2d):
    """A convolution that pads as Flax does: an odd pixel goes to the far side."""

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, C, H, W]`, square, to `[B, out_channels, H / stride, W / stride]`."""
        side, size, stride = images.shape[-1], self.kernel_size[0], self.stride[0]
        near, odd = divmod(max((-(-side // stride) - 1) * stride + size - side, 0), 2)
        if odd:
            images, near = F.pad(images, (near, near + 1, near, near + 1)), 0
        return F.conv2d(images, self.weight, self.bias, self.stride, near)


class MLP(nn.Module):
    """`ltu_jax.models.mlp.MLP` for 64 inputs."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.Dense_0, self.Dense_1 = nn.Linear(64, 128), nn.Linear(128, 128)
        self.Dense_2 = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to logits."""
        hidden = images.permute(0, 2, 3, 1).flatten(1)
        return self.Dense_2(F.relu(self.Dense_1(F.relu(self.Dense_0(hidden)))))


class CNN(nn.Module):
    """`ltu_jax.models.cnn.CNN` for images of 32x32."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.Conv_0 = Convolution(3, 24, 3, 2)
        self.Conv_1 = Convolution(24, 48, 3, 2)
        self.Conv_2 = Convolution(48, 64, 3)
        self.Dense_0 = nn.Linear(4 * 4 * 64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, 3, 32, 32]` to logits."""
        hidden = images
        for convolution in (self.Conv_0, self.Conv_1, self.Conv_2):
            hidden = F.relu(convolution(hidden))
        return self.Dense_0(F.avg_pool2d(hidden, 2).permute(0, 2, 3, 1).flatten(1))


class BasicBlock(nn.Module):
    """`ltu_jax.models.resnet.BasicBlock`."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.Conv_0 = Convolution(inputs, width, 3, stride, bias=False)
        self.BatchNorm_0 = nn.BatchNorm2d(width)
        self.Conv_1 = Convolution(width, width, 3, bias=False)
        self.BatchNorm_1 = nn.BatchNorm2d(width)
        self.reshapes = stride != 1 or inputs != width
        if self.reshapes:
            self.Conv_2 = Convolution(inputs, width, 1, stride, bias=False)
            self.BatchNorm_2 = nn.BatchNorm2d(width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, width, H / stride, W / stride]`."""
        hidden = F.relu(self.BatchNorm_0(self.Conv_0(inputs)))
        hidden = self.BatchNorm_1(self.Conv_1(hidden))
        shortcut = self.BatchNorm_2(self.Conv_2(inputs)) if self.reshapes else inputs
        return F.relu(hidden + shortcut)


class ResNet(nn.Module):
    """`ltu_jax.models.resnet.ResNet`."""

    def __init__(self, num_classes: int, blocks: Sequence[int], widths: Sequence[int]):
        super().__init__()
        self.Conv_0 = Convolution(3, widths[0], 3, bias=False)
        self.BatchNorm_0 = nn.BatchNorm2d(widths[0])
        self.depth, before = 0, widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.add_module(f"BasicBlock_{self.depth}", BasicBlock(before, width, stride))
                self.depth, before = self.depth + 1, width
        self.Dense_0 = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, 3, H, W]` to logits."""
        hidden = F.relu(self.BatchNorm_0(self.Conv_0(images)))
        for i in range(self.depth):
            hidden = self.get_submodule(f"BasicBlock_{i}")(hidden)
        return self.Dense_0(hidden.mean((2, 3)))


class Attention(nn.Module):
    """Self-attention, written out: PyTorch's fused form has no second derivative."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[B, T, D]` to `[B, T, D]`."""
        query, key, value = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = F.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    """`ltu_jax.models.vit.EncoderBlock`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.LayerNorm_0 = nn.LayerNorm(width, eps=1e-6)
        self.MultiHeadDotProductAttention_0 = Attention(width, heads)
        self.LayerNorm_1 = nn.LayerNorm(width, eps=1e-6)
        self.Dense_0 = nn.Linear(width, 4 * width)
        self.Dense_1 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[B, T, D]` to `[B, T, D]`."""
        tokens = tokens + self.MultiHeadDotProductAttention_0(self.LayerNorm_0(tokens))
        hidden = F.gelu(self.Dense_0(self.LayerNorm_1(tokens)), approximate="tanh")
        return tokens + self.Dense_1(hidden)


class ViTTiny(nn.Module):
    """`ltu_jax.models.vit.ViTTiny` for images of 32x32."""

    def __init__(self, num_classes: int, depth: int = 4, width: int = 192, heads: int = 3):
        super().__init__()
        self.depth = depth
        self.Conv_0 = Convolution(3, width, 4, 4)
        self.position = nn.Parameter(torch.zeros(64, width))
        for i in range(depth):
            self.add_module(f"EncoderBlock_{i}", EncoderBlock(width, heads))
        self.LayerNorm_0 = nn.LayerNorm(width, eps=1e-6)
        self.Dense_0 = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, 3, 32, 32]` to logits."""
        tokens = self.Conv_0(images).flatten(2).mT + self.position
        for i in range(self.depth):
            tokens = self.get_submodule(f"EncoderBlock_{i}")(tokens)
        return self.Dense_0(self.LayerNorm_0(tokens).mean(1))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet20": lambda num_classes: ResNet(num_classes, (3, 3, 3), (16, 32, 64)),
    "resnet18": lambda num_classes: ResNet(num_classes, (2, 2, 2, 2), (64, 128, 256, 512)),
    "vit_tiny": ViTTiny,
}


def in_pytorch(name: str, variables: Variables, num_classes: int, device: str) -> nn.Module:
    """Return a built-in network in PyTorch with the same weights and statistics.

    Args:
      name: of the built-in network; an `mlp` is one for 64 inputs.
      variables: of that network.
      num_classes: its number of logits.
      device: of the result.
    """
    net = NETWORKS[name](num_classes)
    weights = {**_weights(variables.params, ()), **_statistics(variables.state)}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
        raise ValueError(f"the networks differ: {missing} {unexpected}")
    return net.to(device=device, memory_format=torch.channels_last)


def _weights(params: dict[str, Any], path: tuple[str, ...]) -> dict[str, Tensor]:
    """Return parameters by PyTorch's names, in its layouts."""
    found: dict[str, Tensor] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found.update(_weights(value, (*path, name)))
            continue
        value = np.array(value)
        if name == "kernel":
            value = _kernel(value, last=path[-1])
        if name == "bias":
            value = value.reshape(-1)
        name = {"kernel": "weight", "scale": "weight"}.get(name, name)
        found[".".join((*path, name))] = torch.from_numpy(np.ascontiguousarray(value))
    return found


def _kernel(kernel: np.ndarray, last: str) -> np.ndarray:
    """Return `[..., in, out]` as `[out, in, ...]`; those of attention have a heads' axis."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if last == "out":
        return kernel.reshape(-1, kernel.shape[-1]).T
    return kernel.reshape(len(kernel), -1).T


def _statistics(state: dict[str, Any]) -> dict[str, Tensor]:
    named = _weights(state.get("batch_stats", {}), ())
    return {
        name.replace(".mean", ".running_mean").replace(".var", ".running_var"): value
        for name, value in named.items()
    }
