"""What is measured: a network, images of its shape, and LTU with batches of some size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.performance.counting import Images
from ltu_jax.models import build, with_preprocessing
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.tasks import MIN_QUERY_SIZE, query_size

CLASSES = 10
MODELS = ("mlp", "cnn", "resnet20", "resnet18", "vit_tiny")


class Subject(NamedTuple):
    """A network with what it may unlearn.

    Attributes:
      model: takes raw images.
      variables: fresh; times do not depend on what a network has learnt.
      data: noise, in the sizes of a tenth forgotten.
      config: LTU's defaults, with the batches of this subject.
      share: of the default batches and of the data, at most 1.
    """

    model: Model
    variables: Variables
    data: UnlearnData
    config: LTUConfig
    share: float

    @property
    def images(self) -> Images:
        """What an LTU step looks at."""
        config, num_queries = self.config, len(self.config.query_sampling)
        queried = num_queries * query_size(spec_of(self.data, CLASSES), config, num_queries)
        return Images(config.support_size, config.audit_size, queried)

    @property
    def has_statistics(self) -> bool:
        """Whether the network has BatchNorm."""
        return bool(jax.tree.leaves(self.variables.state))


def subject(name: str, share: float = 1.0) -> Subject:
    """Return a built-in network; the `mlp` sees digits (8x8x1), the others CIFAR (32x32x3).

    Args:
      name: of the network.
      share: of LTU's default batches, and of 1,000 examples to forget and 2,700 to see: what is
        forgotten and seen of 10,000 images by default.
    """
    shape = (8, 8, 1) if name == "mlp" else (32, 32, 3)
    model = with_preprocessing(build(name, CLASSES), mean=(0.5,), std=(0.25,), augment=False)
    default = LTUConfig()
    config = replace(
        default,
        support_size=scaled(default.support_size, share),
        audit_size=scaled(default.audit_size, share),
        query_size=max(scaled(default.query_size, share), MIN_QUERY_SIZE),
    )
    sizes = (
        max(scaled(1000, share), config.audit_size),
        max(scaled(2700, share), config.query_size * len(config.query_sampling)),
        scaled(500, share),
    )
    data = UnlearnData(*(noise(size, shape, seed) for seed, size in enumerate(sizes)))
    variables = jax.jit(model.init)(jax.random.key(0), data.forget.inputs[:1])
    return Subject(model, variables, data, config, share)


def noise(size: int, shape: tuple[int, ...], seed: int) -> Examples:
    """Return images `[size, *shape]` of noise, with labels in turn."""
    inputs = np.random.default_rng(seed).integers(0, 256, (size, *shape), np.uint8)
    return Examples(jnp.asarray(inputs), jnp.arange(size) % CLASSES)


def scaled(size: int, share: float) -> int:
    """Return a share of a size, at least 1."""
    return max(round(size * share), 1)


def first_order(config: LTUConfig) -> LTUConfig:
    """Return the same options without second derivatives."""
    inner: dict[str, Any] = {
        name: getattr(config, name)._replace(order=1)
        for name in ("random_label_inner", "membership_inner")
    }
    return replace(config, **inner)
