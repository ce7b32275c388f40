"""Fisher forgetting: drown in noise what the retain set does not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
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
from ltu_jax.unlearners.fisher import default_chunk_size, sum_over_batches, sum_over_examples
from ltu_jax.unlearners.sampling import batches_per_pass

SALUN_BATCH_SIZE = 32  # a constant of their `fisher_new`


@dataclass(frozen=True)
class FisherForgettingConfig:
    """Options of Fisher forgetting.

    The noise scale 3e-6 and the shape of the variance (see `noise_variance`) are those of the
    paper's released code.

    Attributes:
      alpha: noise scale; the variance of the noise is alpha over the Fisher information.
      variant: `"expected"`, the Fisher information proper: squared gradients of single examples,
        expected over the labels that the network itself gives. The others reproduce the
        Unlearn-Saliency code (Fan et al. 2024) with its quirks, and want another alpha:
        `"salun_fisher_new"` squares gradients that are averaged over 32 examples, where much
        cancels that should not; `"salun_fisher"` takes the given labels, bounds the deviation at
        1e-3 whatever alpha is, and takes for the last layer what has 10 entries along torch's last
        axis (inputs of a dense layer, say) however many classes there are.

    Raises:
      InputError: a value is out of its range.
    """

    alpha: float = 3e-6
    variant: Literal["expected", "salun_fisher", "salun_fisher_new"] = "expected"

    def __post_init__(self):
        check_range(self, ("alpha",), lambda x: x > 0, "a number above 0")
        variants = ("expected", "salun_fisher", "salun_fisher_new")
        check_range(self, ("variant",), lambda x: x in variants, " or ".join(variants))


def fisher_forgetting(
    model: Model,
    spec: DataSpec,
    config: FisherForgettingConfig = FisherForgettingConfig(),
) -> Unlearner:
    """Build Fisher forgetting; it is done once it is prepared.

    The network is in evaluation mode, and BatchNorm's statistics stay. Only the retain set is read.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `FisherForgettingConfig`.

    Returns:
      The unlearner.
    """

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> Variables:
        information = fisher_information(model, variables, data.retain, spec.num_classes, config)
        variance = noise_variance(information, spec.num_classes, config)
        noise = optax.tree.random_like(key, variables.params, jax.random.normal)
        return variables._replace(params=perturb(variables.params, variance, noise))

    return one_shot(prepare, Invariants(preserves_model_state=True))


def fisher_information(
    model: Model,
    variables: Variables,
    examples: Examples,
    num_classes: int,
    config: FisherForgettingConfig,
) -> PyTree:
    r"""Return the diagonal of the Fisher information, a pytree like the parameters.

    :math:`\frac1N \sum_i \sum_y p_y(x_i) (\partial \log p_y(x_i) / \partial\theta)^2`, or what the
    variants make of it.
    """

    def log_probs(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        return jax.nn.log_softmax(logits)

    def expected(params: PyTree, batch: Examples) -> PyTree:
        def mean_log_probs(params):
            log_p = log_probs(params, batch)
            return log_p.mean(0), jnp.exp(log_p).mean(0)

        gradients, weights = jax.jacrev(mean_log_probs, has_aux=True)(params)
        return jax.tree.map(lambda g: jnp.tensordot(weights, g**2, 1), gradients)

    def empirical(params: PyTree, batch: Examples) -> PyTree:
        gradients = jax.grad(lambda p: log_probs(p, batch)[0, batch.labels[0]])(params)
        return jax.tree.map(lambda g: (g + 1e-8) ** 2, gradients)

    count = len(examples.labels)
    if config.variant == "salun_fisher_new":
        total = sum_over_batches(expected, variables.params, examples, SALUN_BATCH_SIZE)
        count = batches_per_pass(count, SALUN_BATCH_SIZE)
    elif config.variant == "salun_fisher":
        total = sum_over_examples(empirical, variables.params, examples)
    else:  # C gradients for each example have to fit in memory
        chunk_size = max(default_chunk_size() // num_classes, 1)
        total = sum_over_examples(expected, variables.params, examples, chunk_size)
    return jax.tree.map(lambda x: x / count, total)


def noise_variance(information: PyTree, num_classes: int, config: FisherForgettingConfig) -> PyTree:
    r"""Return the variance of each weight's noise, :math:`\alpha / F` within bounds.

    As in the paper's released code: :math:`1/F` is at most 1000, or 100 in the last layer; a
    kernel's variance is averaged over its input axis; the last layer and one-dimensional arrays
    (biases, BatchNorm) get ten times as much. The derivation in the paper has :math:`F^{-1/2}` in
    place of :math:`F^{-1}`.
    """

    def released(f: jax.Array) -> jax.Array:
        last = f.ndim > 0 and f.shape[-1] == num_classes
        variance = config.alpha * jnp.minimum(1 / (f + 1e-8), 100 if last else 1000)
        if f.ndim > 1:
            variance = jnp.broadcast_to(variance.mean(-2, keepdims=True), f.shape)
        return 10 * variance if last or f.ndim == 1 else variance

    def salun_fisher(f: jax.Array) -> jax.Array:
        variance = jnp.minimum(config.alpha / f, 1e-6)
        # Flax keeps torch's last axis (OIHW, OI) third to last, or first.
        last = f.ndim > 0 and f.shape[max(f.ndim - 3, 0)] == 10
        return 100 * variance if last else variance

    rule = salun_fisher if config.variant == "salun_fisher" else released
    return jax.tree.map(rule, information)


def perturb(params: PyTree, variance: PyTree, noise: PyTree) -> PyTree:
    """Return the parameters plus standard normal `noise` scaled to `variance`; all alike."""
    return jax.tree.map(lambda p, var, eps: p + jnp.sqrt(var) * eps, params, variance, noise)


METHOD = Method(
    name="fisher_forgetting",
    summary="noise on the weights that matter little to the retain set",
    reference="Golatkar et al. 2020, arXiv 1911.04933",
    build=fisher_forgetting,
    config=FisherForgettingConfig(),
    space={"alpha": LogUniform(1e-7, 1e-4)},
)
