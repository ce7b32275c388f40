"""Influence unlearning: one Newton step from the minimum of the full loss to the retain loss's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Config, LogUniform, Method, PositiveFloat, PositiveInt
from ltu_jax.unlearners.fisher import sum_over_batches
from ltu_jax.unlearners.sampling import take


@dataclass(frozen=True)
class InfluenceConfig(Config):
    """Options of influence unlearning.

    The sample of 1000 is that of Fan et al. 2024. Alpha 1 follows from the theory; their code has
    0.2. Damping and iterations are ours: a tenth of the damping spoilt a small model on the digits,
    ten times as much hardly moved it.

    Attributes:
      alpha: length of the step, in Newton steps.
      damping: multiple of the identity that is added to the Fisher information.
      num_samples: number of retain examples that estimate the Fisher information.
      iterations: number of conjugate gradient iterations; `num_samples` + 1 solve exactly.
      batch_size: examples per batch of the gradient sums; limits memory only.
    """

    alpha: PositiveFloat = 1.0
    damping: PositiveFloat = 3e-2
    num_samples: PositiveInt = 1000
    iterations: PositiveInt = 50
    batch_size: PositiveInt = 256


class InfluenceState(NamedTuple):
    """State of the conjugate gradients.

    Attributes:
      variables: the original.
      change: the solution so far, a pytree like the parameters.
      residual: right-hand side minus the matrix times `change`.
      direction: search direction of the next iteration.
      scale: norm of the right-hand side.
      rows: `[n]` rows of the retain examples that estimate the Fisher information.
    """

    variables: Variables
    change: PyTree
    residual: PyTree
    direction: PyTree
    scale: jax.Array
    rows: jax.Array


def influence(
    model: Model, spec: DataSpec, config: InfluenceConfig = InfluenceConfig()
) -> Unlearner:
    r"""Build influence unlearning with the damped empirical Fisher information as Hessian.

    .. math::
        \theta \leftarrow \theta + \alpha \Big(\lambda I + \frac1n \sum_{i=1}^n g_i g_i^\top
        \Big)^{-1} (\nabla L_{all} - \nabla L_{retain})

    with the gradients :math:`g_i` of n retain examples. The matrix is never formed: a step is one
    iteration of conjugate gradients. They are written out here because
    `jax.scipy.sparse.linalg.cg` loops inside the compiled program, where convolutions are slow on
    CPU. The model is in evaluation mode.

    Returns:
      The unlearner; it keeps the model state. `info` holds the relative `residual`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> unlearner, key = influence(model, spec), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> bool(history["residual"][-1] < 1e-3)
      True

    References:
      Koh and Liang, "Understanding Black-box Predictions via Influence Functions", 2017,
      https://arxiv.org/abs/1703.04730

      Jia et al., "Model Sparsity Can Simplify Machine Unlearning", 2023,
      https://arxiv.org/abs/2304.04934
    """
    num_samples = min(config.num_samples, spec.num_retain)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> InfluenceState:
        shift = risk_shift(model, variables, data, config.batch_size)
        rows = jax.random.permutation(key, spec.num_retain)[:num_samples]
        zeros = optax.tree.zeros_like(shift)
        return InfluenceState(variables, zeros, shift, shift, optax.tree.norm(shift), rows)

    def sample(key: Key, t: jax.Array, state: InfluenceState, data: UnlearnData) -> Examples:
        del key, t
        return take(data.retain, state.rows)

    def step(key: Key, state: InfluenceState, batch: Examples) -> tuple[InfluenceState, Info]:
        del key
        direction = state.direction
        product = fisher_product(model, state.variables, batch, direction)
        product = optax.tree.add_scale(product, config.damping, direction)
        before = optax.tree.vdot(state.residual, state.residual)
        length = _ratio(before, optax.tree.vdot(direction, product))
        change = optax.tree.add_scale(state.change, length, direction)
        residual = optax.tree.add_scale(state.residual, -length, product)
        after = optax.tree.vdot(residual, residual)
        direction = optax.tree.add_scale(residual, _ratio(after, before), direction)
        state = state._replace(change=change, residual=residual, direction=direction)
        return state, {"residual": _ratio(jnp.sqrt(after), state.scale)}

    def finish(state: InfluenceState) -> Variables:
        change = optax.tree.scale(config.alpha, state.change)
        return state.variables._replace(params=optax.tree.add(state.variables.params, change))

    num_steps = min(config.iterations, num_samples + 1)
    return Unlearner(
        prepare, sample, step, finish, num_steps, Invariants(preserves_model_state=True)
    )


def risk_shift(model: Model, variables: Variables, data: UnlearnData, batch_size: int) -> PyTree:
    r"""Return the gradient of the mean loss on all data minus that on the retain set.

    :math:`\frac{1}{n_f + n_r} \big(\sum_f g - \frac{n_f}{n_r} \sum_r g\big)` (Jia et al. 2023).
    """

    def gradient(params: PyTree, batch: Examples) -> PyTree:
        return jax.grad(lambda p: _losses(model, variables.state, batch, p).sum())(params)

    num_forget, num_retain = len(data.forget.labels), len(data.retain.labels)
    forget = sum_over_batches(gradient, variables.params, data.forget, batch_size)
    retain = sum_over_batches(gradient, variables.params, data.retain, batch_size)
    return jax.tree.map(
        lambda f, r: (f - num_forget / num_retain * r) / (num_forget + num_retain), forget, retain
    )


def fisher_product(model: Model, variables: Variables, batch: Examples, vector: PyTree) -> PyTree:
    r"""Return :math:`\frac1n \sum_i g_i g_i^\top v` without forming any :math:`g_i`."""

    def losses(params: PyTree) -> jax.Array:
        return _losses(model, variables.state, batch, params)

    vector = optax.tree.cast_like(vector, variables.params)
    _, along = jax.jvp(losses, (variables.params,), (vector,))
    _, pull_back = jax.vjp(losses, variables.params)
    return pull_back(along / len(along))[0]


def _losses(model: Model, state: PyTree, batch: Examples, params: PyTree) -> jax.Array:
    logits, _ = model.apply(Variables(params, state), batch.inputs)
    return cross_entropy(logits, batch.labels)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> jax.Array:
    """Return the quotient, or 0 if the denominator is not positive: the solution is reached."""
    denominator = jnp.asarray(denominator)
    safe = jnp.where(denominator > 0, denominator, 1)
    return jnp.where(denominator > 0, numerator / safe, 0)


METHOD = Method(
    name="influence",
    summary="a Newton step that removes the forget set's contribution, by influence functions",
    reference="Jia et al. 2023, arXiv 2304.04934; Koh and Liang 2017, arXiv 1703.04730",
    build=influence,
    config=InfluenceConfig(),
    space={"alpha": LogUniform(0.1, 10.0), "damping": LogUniform(1e-2, 1.0)},
)
