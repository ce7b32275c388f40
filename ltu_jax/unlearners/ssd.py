"""Selective Synaptic Dampening: shrink weights that matter more to the forget set than to all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from ltu_jax.errors import InputError
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import (
    Config,
    LogUniform,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    one_shot,
)
from ltu_jax.unlearners.fisher import sum_over_examples


@dataclass(frozen=True)
class SSDConfig(Config):
    """Options of Selective Synaptic Dampening.

    Dampening constant, exponent and lower bound are the authors'. Their selection weighting of 10
    selects nothing once the forget set is more than a tenth of the data; 1 is ours.

    Attributes:
      selection_weighting: alpha, least ratio of forget to full importance of a dampened weight.
      dampening_constant: lambda, factor on the inverse of that ratio.
      exponent: power to which the factor on the weight is raised.
      lower_bound: largest factor on a weight (the authors' name); 1 lets no weight grow.
      importance: `"loss"`, the mean squared gradient of the loss (the diagonal of the empirical
        Fisher information), or `"output_norm"`, the mean absolute gradient of the squared norm of
        the logits, which needs no labels.
    """

    selection_weighting: PositiveFloat = 1.0
    dampening_constant: NonNegativeFloat = 1.0
    exponent: PositiveFloat = 1.0
    lower_bound: PositiveFloat = 1.0
    importance: Literal["loss", "output_norm"] = "loss"


def ssd(model: Model, spec: DataSpec, config: SSDConfig = SSDConfig()) -> Unlearner:
    r"""Build Selective Synaptic Dampening, a method without steps.

    Let :math:`I_f` and :math:`I` be the importances of a weight to the forget set and to all
    visible training data. Where :math:`I_f > \alpha I`,

    .. math:: \theta \leftarrow \min((\lambda I / I_f)^p, b)\, \theta

    with exponent p and bound b. The importances are those of evaluation mode. The authors' code
    squares gradients of batch means; here gradients of single examples are squared.

    Returns:
      The unlearner; it keeps the model state.

    Raises:
      InputError: `selection_weighting` selects no weight, whatever the model.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> config = SSDConfig(selection_weighting=0.5, dampening_constant=0.1)
      >>> unlearner, key = ssd(model, spec, config), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> bool(abs(unlearned.params["kernel"]).sum() < abs(variables.params["kernel"]).sum())
      True

    References:
      Foster et al., "Fast Machine Unlearning Without Retraining Through Selective Synaptic
      Dampening", 2024, https://arxiv.org/abs/2308.07707

      Foster et al., "Loss-Free Machine Unlearning", 2024 (`importance="output_norm"`),
      https://arxiv.org/abs/2402.19308
    """
    largest_ratio = (spec.num_forget + spec.num_retain) / spec.num_forget
    if config.selection_weighting >= largest_ratio:
        raise InputError(
            "selection_weighting",
            f"is {config.selection_weighting}; selects nothing with {spec.num_forget} forget and "
            f"{spec.num_retain} retain examples",
            f"give less than {largest_ratio:.3g}",
        )

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> Variables:
        del key
        forget, full = importances(model, variables, data, config)
        return variables._replace(params=dampen(variables.params, forget, full, config))

    return one_shot(prepare, Invariants(preserves_model_state=True))


def importances(
    model: Model, variables: Variables, data: UnlearnData, config: SSDConfig
) -> tuple[PyTree, PyTree]:
    """Return the importance of each weight to the forget set, and to retain and forget set."""
    num_forget, num_retain = len(data.forget.labels), len(data.retain.labels)
    forget = importance(model, variables, data.forget, config)
    retain = importance(model, variables, data.retain, config)
    share = num_forget / (num_forget + num_retain)
    return forget, jax.tree.map(lambda f, r: share * f + (1 - share) * r, forget, retain)


def importance(model: Model, variables: Variables, examples: Examples, config: SSDConfig) -> PyTree:
    r"""Return the importance of each weight to `examples`, a pytree like the parameters.

    With :math:`\ell` the loss, :math:`\frac1N \sum_i (\partial \ell_i / \partial\theta)^2`, or with
    :math:`f` the logits, :math:`\frac1N \sum_i |\partial \|f(x_i)\|_2^2 / \partial\theta|`.
    """

    def loss_fn(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        if config.importance == "loss":
            return cross_entropy(logits, batch.labels).mean()
        return jnp.sum(logits**2, axis=-1).mean()

    def sensitivity(params: PyTree, batch: Examples) -> PyTree:
        size = jnp.square if config.importance == "loss" else jnp.abs
        return jax.tree.map(size, jax.grad(loss_fn)(params, batch))

    total = sum_over_examples(sensitivity, variables.params, examples)
    return jax.tree.map(lambda x: x / len(examples.labels), total)


def dampen(params: PyTree, forget: PyTree, full: PyTree, config: SSDConfig) -> PyTree:
    """Return `params` with the selected weights shrunk; the importances are pytrees like it."""

    def shrink(weight: jax.Array, forget: jax.Array, full: jax.Array) -> jax.Array:
        selected = forget > config.selection_weighting * full
        ratio = config.dampening_constant * full / jnp.where(selected, forget, 1)
        factor = jnp.minimum(ratio**config.exponent, config.lower_bound)
        return jnp.where(selected, weight * factor, weight)

    return jax.tree.map(shrink, params, forget, full)


# Higher weightings select nothing if the forget set is large; see `SSDConfig`.
SPACE = {
    "selection_weighting": LogUniform(0.5, 2.0),
    "dampening_constant": LogUniform(0.1, 1.0),
}

METHOD = Method(
    name="ssd",
    summary="shrink the weights whose Fisher information is largest on the forget set",
    reference="Foster et al. 2024 (AAAI), arXiv 2308.07707",
    build=ssd,
    config=SSDConfig(),
    space=SPACE,
)

LABEL_FREE = Method(
    name="lfssd",
    summary="ssd without labels: shrink the weights that move outputs most on the forget set",
    reference="Foster et al. 2024 (ICLR Tiny Papers), arXiv 2402.19308",
    build=ssd,
    config=SSDConfig(importance="output_norm"),
    space=SPACE,
)
