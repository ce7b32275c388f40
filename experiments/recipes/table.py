"""What the recipes are: data, network, training and whom to forget, in the literature's numbers.

The protocol is SalUn's (Fan et al., arXiv 2310.12508): 45,000 of CIFAR's 50,000 training images,
182 epochs of SGD, a random 10 % or 50 % or one class forgotten. The schedule here is a cosine;
theirs steps down at half and three quarters.
"""

from __future__ import annotations

from typing import NamedTuple

from ltu_jax.training.supervised import Recipe

RATE = 40e12  # operations a second assumed of one accelerator of the H100's kind, float32 by TF32
PER_IMAGE = {  # multiply-adds of a forward pass, in millions
    ("resnet18", 32): 555,
    ("resnet18", 64): 2_222,
    ("vit_tiny", 32): 120,
    ("vit_tiny", 64): 122,
}
RESNET = Recipe(epochs=182, batch_size=256, learning_rate=0.1, weight_decay=5e-4, augment=True)
VIT = Recipe(epochs=182, batch_size=256, learning_rate=0.05, warmup=0.1, augment=True)


class Setting(NamedTuple):
    """A recipe.

    Attributes:
      data: a TFDS name, or `tiny_imagenet`.
      images: how many to train on; None is all.
      side: pixels of an image.
      total: how many training images there are.
      model: the network.
      training: how it is trained.
    """

    data: str
    images: int | None
    side: int
    total: int
    model: str
    training: Recipe


SETTINGS = {
    "cifar10-resnet18": Setting("cifar10", 45_000, 32, 50_000, "resnet18", RESNET),
    "cifar100-resnet18": Setting("cifar100", 45_000, 32, 50_000, "resnet18", RESNET),
    "tiny_imagenet-resnet18": Setting("tiny_imagenet", None, 64, 100_000, "resnet18", RESNET),
    "cifar10-vit": Setting("cifar10", 45_000, 32, 50_000, "vit_tiny", VIT),
    "tiny_imagenet-vit": Setting("tiny_imagenet", None, 64, 100_000, "vit_tiny", VIT),
}
FORGET = ("random_10", "random_50", "class")


def training_flops(setting: Setting) -> float:
    """Return the operations of one training: forward and twice as much backward, each image."""
    images = setting.images or setting.total
    forward = 2e6 * PER_IMAGE[setting.model, setting.side]
    return 3 * forward * images * setting.training.epochs


def deletion_flops(setting: Setting, images_a_step: float, steps: int) -> float:
    """Return the operations of LTU: so many forward-backward passes of an image a step."""
    return 3 * 2e6 * PER_IMAGE[setting.model, setting.side] * images_a_step * steps
