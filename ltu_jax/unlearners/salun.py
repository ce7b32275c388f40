"""SalUn: random labels on the weights that are most salient for the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import optax

from ltu_jax.types import DataSpec, Model, PyTree, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Choice, LogUniform, Method, PositiveShare
from ltu_jax.unlearners.gradient_method import SGD_NUMBERS
from ltu_jax.unlearners.random_label import RandomLabelConfig, random_label
from ltu_jax.unlearners.saliency import saliency_mask


@dataclass(frozen=True)
class SalUnConfig(RandomLabelConfig):
    """Options of SalUn.

    Share, sequential order and new labels in every epoch are those of the authors' CIFAR-10 runs;
    epochs and learning rate are their scripts' defaults, while their example command takes a rate
    of 0.1. Their code draws the true label as well; ours does not. Up to February 2026 it masked
    only the gradient, so that momentum and weight decay moved the masked weights; ours freezes
    them.

    Attributes:
      share: share of the weights that are trained.
    """

    order: Literal["sequential", "joint"] = "sequential"
    redraw: bool = True
    share: PositiveShare = 0.5


def salun(
    model: Model,
    spec: DataSpec,
    config: SalUnConfig = SalUnConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build SalUn: `random_label` under the mask of `saliency_mask` on the forget set.

    .. math:: \theta \leftarrow \theta - \eta\, m \odot \nabla L_{random\ label}(\theta), \qquad
        m = 1\big[|\nabla CE_{forget}(\theta_0)| \ge \gamma\big]

    with the threshold :math:`\gamma` that keeps `share` of all weights. An epoch is a pass over the
    forget and the accessible retain set.

    Returns:
      The unlearner. Info: `loss`.

    Raises:
      InputError: there is only one class.

    Example:
      >>> import jax
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = salun(model, spec, SalUnConfig(epochs=2, share=0.5))
      >>> result, _ = unlearn(method, variables, data, key=jax.random.key(0))
      >>> moved = jax.tree.map(lambda x, y: int((x != y).sum()), result.params, variables.params)
      >>> sum(jax.tree.leaves(moved))  # of 4 weights
      2

    References:
      Fan, Liu, Zhang, Wong, Wei and Liu, "SalUn: Empowering Machine Unlearning via Gradient-based
      Weight Saliency in Both Image Classification and Generation", 2024,
      https://arxiv.org/abs/2310.12508
    """

    def mask(variables: Variables, data: UnlearnData) -> PyTree:
        return saliency_mask(model, variables, data.forget, config.share, config.batch_size)

    return random_label(model, spec, config, tx=tx, mask=mask)


METHOD = Method(
    name="salun",
    summary="random labels that move only the weights most salient for the forget set",
    reference="Fan et al. 2024, arXiv 2310.12508",
    build=salun,
    traced=(*SGD_NUMBERS, "temperature"),
    config=SalUnConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "share": Choice((0.3, 0.5, 0.8)),
    },
)
