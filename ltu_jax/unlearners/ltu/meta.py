r"""The meta-optimisation scheme: meta-tune, meta-test, meta-update (LTU, Eq. 1, 3 and 4).

Both branches of LTU use one scheme. It maps a support loss :math:`L_{tune}`, query losses
:math:`L^i_{test}` and parameters :math:`\theta` to one gradient,

.. math::
    g = \nabla_\theta \Big[ w\, L_{tune}(\theta)
        + \tfrac1N \sum_i L^i_{test}\big(\theta - \alpha \nabla L_{tune}(\theta)\big) \Big],

a gradient through a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import PyTree

TuneLoss = Callable[[PyTree], jax.Array]
QueryLosses = Callable[[PyTree], jax.Array]


class InnerStep(NamedTuple):
    """Options of a meta-gradient: the temporary update of meta-tune and the weight of its loss.

    Attributes:
      lr: inner learning rate, alpha.
      max_norm: bound on the norm of the support gradient, which is scaled down to it. Random labels
        give a memorised model a gradient so large that any fixed step either does nothing or
        destroys the model. The scale is a constant for the gradient through the step.
      count: number of inner steps.
      order: 2 differentiates through the steps; 1 leaves the Hessian out.
      tune_weight: weight w of the support loss itself.
      layers: the steps move this many of the last layers only, see `models.layers.last_layers`; 0
        moves all. The Hessian product then ends at these layers; with 1 a step costs less than one
        of first order.
    """

    lr: float = 0.01
    max_norm: float = float("inf")
    count: int = 1
    order: int = 2
    tune_weight: float = 1.0
    layers: int = 0


class MetaInfo(NamedTuple):
    """Diagnostics of one meta-gradient.

    Attributes:
      tune_loss: the support loss at the parameters.
      query_losses: `[N]`, at the adapted parameters.
      tune_norm: global norm of the support gradient.
    """

    tune_loss: jax.Array
    query_losses: jax.Array
    tune_norm: jax.Array


def meta_tune(tune_loss: TuneLoss, params: PyTree, inner: InnerStep) -> PyTree:
    """Return the temporary copy, stepped down the support loss (Eq. 1)."""
    for _ in range(inner.count):
        params = _descend(params, jax.grad(tune_loss)(params), inner)
    return params


def meta_test(query_losses: QueryLosses, adapted: PyTree) -> tuple[jax.Array, jax.Array]:
    """Return the mean of the query losses at the adapted parameters, and all `[N]` (Eq. 3)."""
    losses = query_losses(adapted)
    return jnp.mean(losses), losses


def meta_objective(
    tune_loss: TuneLoss,
    query_losses: QueryLosses,
    params: PyTree,
    inner: InnerStep,
) -> jax.Array:
    """Return the objective of meta-update (Eq. 4); its `jax.grad` defines `meta_gradient`."""
    adapted = meta_tune(tune_loss, params, inner)
    return inner.tune_weight * tune_loss(params) + meta_test(query_losses, adapted)[0]


def meta_gradient(
    tune_loss: TuneLoss,
    query_losses: QueryLosses,
    params: PyTree,
    inner: InnerStep,
) -> tuple[PyTree, MetaInfo]:
    r"""Return the gradient of `meta_objective`, exactly, and diagnostics.

    The gradient of the queries is pulled back through each inner step by
    :math:`v \mapsto v - \alpha \nabla^2 L_{tune}\, v`, a Hessian-vector product taken forward over
    reverse: one linearisation of the support gradient serves the step, the product and the
    :math:`L_{tune}` term, which is cheaper than reverse over reverse and gives the same numbers.

    Args:
      tune_loss: support loss, `params -> scalar`.
      query_losses: `params -> [N]`.
      params: the parameters.
      inner: see `InnerStep`.

    Returns:
      The gradient, shaped like `params`, and `MetaInfo`.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.unlearners.ltu import InnerStep, meta_gradient
      >>> tune = lambda x: 0.5 * 3.0 * x**2           # gradient 3x, curvature 3
      >>> query = lambda x: jnp.array([0.5 * x**2])   # gradient x
      >>> inner = InnerStep(lr=0.1, tune_weight=0.0)
      >>> g, _ = meta_gradient(tune, query, jnp.array(1.0), inner)
      >>> round(float(g), 6)                           # (1 - 0.1 * 3) ** 2
      0.49
    """
    adapted, pull_backs = params, []
    for step in range(inner.count):
        # `has_aux` returns the loss with its gradient.
        grad, hessian_product, loss = jax.linearize(
            lambda p: jax.value_and_grad(tune_loss)(p)[::-1], adapted, has_aux=True
        )
        if step == 0:
            tune_loss_value, tune_grad = loss, grad
        pull_backs.append((hessian_product, _step_size(grad, inner)))
        adapted = _descend(adapted, grad, inner)
    (_, losses), gradient = jax.value_and_grad(lambda p: meta_test(query_losses, p), has_aux=True)(
        adapted
    )
    if inner.order == 2:
        for hessian_product, size in reversed(pull_backs):
            product = hessian_product(optax.tree.cast_like(gradient, params))
            gradient = optax.tree.add_scale(gradient, -size, product)
    gradient = optax.tree.add_scale(gradient, inner.tune_weight, tune_grad)
    return optax.tree.cast_like(gradient, params), MetaInfo(
        tune_loss_value, losses, optax.tree.norm(tune_grad)
    )


def partial_meta_gradient(
    tune_loss: TuneLoss,
    query_losses: QueryLosses,
    params: PyTree,
    inner: InnerStep,
    moved: PyTree,
) -> tuple[PyTree, MetaInfo]:
    r"""Return the gradient of a meta-objective whose inner steps move a part of the parameters.

    With parameters :math:`\theta = (\phi, \psi)` of which the steps move :math:`\psi`, it is

    .. math::
        g = \nabla_\theta \Big[ w\, L_{tune}(\phi, \psi)
            + \tfrac1N \sum_i L^i_{test}\big(\phi,
              \psi - \alpha \nabla_\psi L_{tune}(\phi, \psi)\big) \Big],

    exactly. If :math:`\psi` are last layers, the gradient through a gradient ends there, and the
    other layers are passed once forwards and twice backwards.

    Args:
      tune_loss: support loss, `params -> scalar`.
      query_losses: `params -> [N]`.
      params: the parameters.
      inner: see `InnerStep`.
      moved: booleans like `params`, True for the leaves that the steps move.

    Returns:
      The gradient, shaped like `params`, and `MetaInfo`.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.unlearners.ltu import InnerStep, partial_meta_gradient
      >>> tune = lambda p: 0.5 * (p["head"] * p["body"]) ** 2
      >>> query = lambda p: jnp.array([p["head"] + p["body"]])
      >>> inner, moved = InnerStep(lr=0.1, tune_weight=0.0), {"body": False, "head": True}
      >>> g, _ = partial_meta_gradient(tune, query, {"body": 2.0, "head": 1.0}, inner, moved)
      >>> [round(float(g[part]), 6) for part in ("body", "head")]   # 1 - .1 * 4, 1 - .1 * 4
      [0.6, 0.6]

    References:
      Raghu et al., "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
      MAML", ICLR 2020, https://arxiv.org/abs/1909.09157
    """

    def objective(params: PyTree) -> tuple[jax.Array, MetaInfo]:
        part, join = _part(params, moved)
        for step in range(inner.count):
            loss, grad = jax.value_and_grad(lambda p: tune_loss(join(p)))(part)
            if step == 0:
                tune_value, tune_norm = loss, optax.tree.norm(grad)
            part = _descend(part, grad, inner)
        value, losses = meta_test(query_losses, join(part))
        info = MetaInfo(tune_value, losses, tune_norm)
        return value + inner.tune_weight * tune_value, info

    gradient, info = jax.grad(objective, has_aux=True)(params)
    return gradient, info


def _part(params: PyTree, moved: PyTree) -> tuple[list[jax.Array], Callable[[list], PyTree]]:
    """Return the leaves that are moved, and how to put others in their place."""
    leaves, structure = jax.tree.flatten(params)
    chosen = [i for i, choice in enumerate(jax.tree.leaves(moved)) if choice]

    def join(part: list[jax.Array]) -> PyTree:
        whole = list(leaves)
        for i, leaf in zip(chosen, part, strict=True):
            whole[i] = leaf
        return structure.unflatten(whole)

    return [leaves[i] for i in chosen], join


def _descend(params: PyTree, grad: PyTree, inner: InnerStep) -> PyTree:
    if inner.order == 1:
        grad = jax.lax.stop_gradient(grad)
    # Parameters of two float types would all take the wider one.
    return optax.tree.cast_like(
        optax.tree.add_scale(params, -_step_size(grad, inner), grad), params
    )


def _step_size(grad: PyTree, inner: InnerStep) -> jax.Array:
    """Learning rate times the clipping scale, a constant to differentiation."""
    norm = optax.tree.norm(jax.lax.stop_gradient(grad))
    return inner.lr * jnp.minimum(1.0, inner.max_norm / jnp.maximum(norm, 1e-12))
