"""Fisher forgetting: add noise to the weights that matter little to the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

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
from ltu_jax.unlearners.base import Config, LogUniform, Method, PositiveFloat, one_shot
from ltu_jax.unlearners.fisher import PerBatch, default_chunk_size, sum_over_examples


@dataclass(frozen=True)
class FisherForgettingConfig(Config):
    """Options of Fisher forgetting.

    Attributes:
      alpha: ratio of the noise variance to the inverse Fisher information; the authors' 3e-6.
    """

    alpha: PositiveFloat = 3e-6


def fisher_forgetting(
    model: Model, spec: DataSpec, config: FisherForgettingConfig = FisherForgettingConfig()
) -> Unlearner:
    r"""Build Fisher forgetting, a method without steps.

    .. math::
        \theta \leftarrow \theta + \sqrt{\alpha / F}\, \varepsilon, \qquad
        F = \frac1N \sum_i \sum_y p_y(x_i) (\partial \log p_y(x_i) / \partial\theta)^2

    with standard normal noise and the diagonal F of the Fisher information on the retain set, in
    evaluation mode. `noise_variance` gives the bounds on 1/F. An array whose last axis has as many
    entries as there are classes counts as the last layer.

    Returns:
      The unlearner; it keeps the model state and reads the retain set only.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> unlearner, key = fisher_forgetting(model, spec), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> bool((unlearned.params["kernel"] != variables.params["kernel"]).all())
      True

    References:
      Golatkar et al., "Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep
      Networks", 2020, https://arxiv.org/abs/1911.04933
    """

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> Variables:
        information = fisher_information(model, variables, data.retain, spec.num_classes)
        variance = noise_variance(information, spec.num_classes, config.alpha)
        noise = optax.tree.random_like(key, variables.params, jax.random.normal)
        return variables._replace(params=perturb(variables.params, variance, noise))

    return one_shot(prepare, Invariants(preserves_model_state=True))


def fisher_information(
    model: Model, variables: Variables, examples: Examples, num_classes: int
) -> PyTree:
    """Return the diagonal of the Fisher information, a pytree like the parameters."""
    # Memory has to hold `num_classes` gradients of each example of a chunk.
    chunk_size = max(default_chunk_size() // num_classes, 1)
    squares = expected_squares(model, variables.state)
    total = sum_over_examples(squares, variables.params, examples, chunk_size)
    return jax.tree.map(lambda x: x / len(examples.labels), total)


def expected_squares(model: Model, state: PyTree) -> PerBatch:
    r"""Return the function :math:`\sum_y \bar p_y (\partial \overline{\log p_y})^2` of a batch."""

    def squares(params: PyTree, batch: Examples) -> PyTree:
        def mean_log_probs(params: PyTree) -> tuple[jax.Array, jax.Array]:
            logits, _ = model.apply(Variables(params, state), batch.inputs)
            log_p = jax.nn.log_softmax(logits)
            return log_p.mean(0), jnp.exp(log_p).mean(0)

        gradients, weights = jax.jacrev(mean_log_probs, has_aux=True)(params)
        return jax.tree.map(lambda g: jnp.tensordot(weights, g**2, 1), gradients)

    return squares


def noise_variance(information: PyTree, num_classes: int, alpha: float) -> PyTree:
    r"""Return the variance of each weight's noise, :math:`\alpha / F` within bounds.

    As in the paper's released code: :math:`1/F` is at most 1000, or 100 in the last layer; a
    kernel's variance is averaged over its input axis; the last layer and one-dimensional arrays
    (biases, BatchNorm) get ten times as much. The derivation in the paper has :math:`F^{-1/2}` in
    place of :math:`F^{-1}`.
    """

    def of_array(f: jax.Array) -> jax.Array:
        last = f.ndim > 0 and f.shape[-1] == num_classes
        variance = alpha * jnp.minimum(1 / (f + 1e-8), 100 if last else 1000)
        if f.ndim > 1:
            variance = jnp.broadcast_to(variance.mean(-2, keepdims=True), f.shape)
        return 10 * variance if last or f.ndim == 1 else variance

    return jax.tree.map(of_array, information)


def perturb(params: PyTree, variance: PyTree, noise: PyTree) -> PyTree:
    """Return the parameters plus standard normal `noise`, scaled to `variance`."""
    return jax.tree.map(lambda p, var, eps: p + jnp.sqrt(var) * eps, params, variance, noise)


METHOD = Method(
    name="fisher_forgetting",
    summary="add noise to the weights that matter little to the retain set",
    reference="Golatkar et al. 2020, arXiv 1911.04933",
    build=fisher_forgetting,
    config=FisherForgettingConfig(),
    space={"alpha": LogUniform(1e-7, 1e-4)},
)
