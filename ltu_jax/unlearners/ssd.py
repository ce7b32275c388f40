"""Selective Synaptic Dampening: shrink the weights that matter more to the forget set than to all.

The label-free form asks how much a weight moves the outputs instead of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from ltu_jax.errors import InputError, check_range
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
from ltu_jax.unlearners.base import LogUniform, Method, one_shot
from ltu_jax.unlearners.fisher import sum_over_batches, sum_over_examples
from ltu_jax.unlearners.sampling import batches_per_pass


@dataclass(frozen=True)
class SSDConfig:
    """Options of Selective Synaptic Dampening.

    Dampening 1, exponent 1 and bound 1 are the authors'. Their selection weighting of 10 selects
    nothing once the forget set is more than a tenth of the data seen, as the importance to all of
    the data contains that to the forget set; 1 is ours, and where it selects a weight that barely
    matters more to the forget set, it barely shrinks it.

    Attributes:
      selection_weighting: alpha; a weight is dampened whose importance to the forget set exceeds
        alpha times that to all data.
      dampening_constant: lambda; its factor is lambda times the ratio of the two, inverted.
      exponent: power to which the factor is raised.
      lower_bound: the authors' name for the largest factor allowed; with 1 no weight grows.
      importance: `"loss"`, the mean squared gradient of the loss (the diagonal of the Fisher
        information), or `"output_norm"`, the mean absolute gradient of the squared norm of the
        logits, which needs no labels.
      average: `"examples"`, over the gradients of single examples, or `"batches"`, as the authors'
        code does, over the gradients of batch means. The latter is no Fisher information: what
        examples of a batch disagree upon cancels before it is squared.
      batch_size: of those batches, in order; the last one may be short and counts as much.

    Raises:
      InputError: a value is out of its range.
    """

    selection_weighting: float = 1.0
    dampening_constant: float = 1.0
    exponent: float = 1.0
    lower_bound: float = 1.0
    importance: Literal["loss", "output_norm"] = "loss"
    average: Literal["examples", "batches"] = "examples"
    batch_size: int = 128

    def __post_init__(self):
        check_range(
            self,
            ("selection_weighting", "exponent", "lower_bound", "batch_size"),
            lambda x: x > 0,
            "a number above 0",
        )
        check_range(self, ("dampening_constant",), lambda x: x >= 0, "a number of at least 0")
        check_range(
            self, ("importance",), lambda x: x in ("loss", "output_norm"), "loss or output_norm"
        )
        check_range(
            self, ("average",), lambda x: x in ("examples", "batches"), "examples or batches"
        )


def ssd(model: Model, spec: DataSpec, config: SSDConfig = SSDConfig()) -> Unlearner:
    """Build Selective Synaptic Dampening; it is done once it is prepared.

    The network is in evaluation mode, and BatchNorm's statistics stay.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `SSDConfig`.

    Returns:
      The unlearner.

    Raises:
      InputError: no weight can be selected, whatever the network.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    largest_ratio = (num_forget + num_retain) / num_forget
    if config.average == "examples" and config.selection_weighting >= largest_ratio:
        raise InputError(
            f"selection_weighting is {config.selection_weighting}; with {num_forget} forget and "
            f"{num_retain} retain examples it selects nothing, give less than {largest_ratio:.3g}"
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
    if config.average == "batches":  # some batch may straddle the two sets
        both = jax.tree.map(lambda r, f: jnp.concatenate([r, f]), data.retain, data.forget)
        return forget, importance(model, variables, both, config)
    retain = importance(model, variables, data.retain, config)
    share = num_forget / (num_forget + num_retain)
    return forget, jax.tree.map(lambda f, r: share * f + (1 - share) * r, forget, retain)


def importance(model: Model, variables: Variables, examples: Examples, config: SSDConfig) -> PyTree:
    r"""Return the importance of each weight to `examples`, a pytree like the parameters.

    With :math:`\ell` the loss, :math:`\frac1N \sum_i (\partial \ell_i / \partial\theta)^2` (Foster
    et al. 2023), or with :math:`f` the logits, :math:`\frac1N \sum_i |\partial \|f(x_i)\|_2^2 /
    \partial\theta|` (Foster et al. 2024).
    """

    def loss_fn(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        if config.importance == "loss":
            return cross_entropy(logits, batch.labels).mean()
        return jnp.sum(logits**2, axis=-1).mean()

    def sensitivity(params: PyTree, batch: Examples) -> PyTree:
        size = jnp.square if config.importance == "loss" else jnp.abs
        return jax.tree.map(size, jax.grad(loss_fn)(params, batch))

    count = len(examples.labels)
    if config.average == "batches":
        total = sum_over_batches(sensitivity, variables.params, examples, config.batch_size)
        count = batches_per_pass(count, config.batch_size)
    else:
        total = sum_over_examples(sensitivity, variables.params, examples)
    return jax.tree.map(lambda x: x / count, total)


def dampen(params: PyTree, forget: PyTree, full: PyTree, config: SSDConfig) -> PyTree:
    r"""Return the parameters with the selected ones shrunk (Foster et al. 2023).

    Where :math:`I_f > \alpha I_D`, a weight is multiplied by :math:`\min(\lambda I_D / I_f, 1)`.

    Args:
      params: the network's.
      forget: importances to the forget set, like `params`.
      full: importances to all data, like `params`.
      config: see `SSDConfig`.
    """

    def shrink(weight, forget, full):
        selected = forget > config.selection_weighting * full
        ratio = config.dampening_constant * full / jnp.where(selected, forget, 1)
        factor = jnp.minimum(ratio**config.exponent, config.lower_bound)
        return jnp.where(selected, weight * factor, weight)

    return jax.tree.map(shrink, params, forget, full)


# Higher weightings select nothing where the forget set is large; see `SSDConfig`.
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
