r"""LTU, the unlearner: two meta-gradients and their harmonisation (arXiv 2407.10494)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ltu_jax.models.layers import last_layers
from ltu_jax.types import DataSpec, Info, Invariants, Key, Model, PyTree, Unlearner
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.harmonization import harmonize
from ltu_jax.unlearners.ltu.meta import (
    InnerStep,
    MetaInfo,
    QueryLosses,
    TuneLoss,
    meta_gradient,
    partial_meta_gradient,
)
from ltu_jax.unlearners.ltu.objectives.base import Forgetting
from ltu_jax.unlearners.ltu.tasks import LTUBatch, LTUState, Tasks, make_tasks
from ltu_jax.unlearners.ltu.weight_noise import with_weight_noise

Unravel = Callable[[jax.Array], PyTree]
MetaGradient = Callable[[TuneLoss, QueryLosses, jax.Array, Unravel], tuple[jax.Array, MetaInfo]]


def ltu(
    model: Model,
    spec: DataSpec,
    config: LTUConfig = LTUConfig(),
    *,
    forgetting: Forgetting | None = None,
) -> Unlearner:
    r"""Build LTU: each step descends a remembering and a forgetting meta-gradient.

    With the losses :math:`R` of a forget batch under random labels, :math:`Q_i` of N query sets of
    the retain set and :math:`M_k` of K membership models on a forget batch,

    .. math::
        g_r &= \nabla_\theta \big[ w_r R(\theta)
            + \tfrac1N \sum_i Q_i(\theta - \alpha \nabla R(\theta)) \big] \\
        g_f &= \nabla_\theta \big[ w_f \bar M_S(\theta)
            + \bar M_{S^c}(\theta - \beta \nabla \bar M_S(\theta)) \big] \\
        \theta &\leftarrow \mathrm{SGD}\big(\theta, \mathrm{harmonize}(g_r, \lambda g_f)\big),

    where :math:`\bar M_S` is the mean over a random support :math:`S` of the K models and
    :math:`\bar M_{S^c}` that over the others.

    BatchNorm normalises with the stored statistics in every pass of both branches, as in the
    deployed model. The query sets update the statistics once per step; random labels and the forget
    set never do. Dropout and augmentation are off.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `LTUConfig`. The paper leaves much open; these choices follow experiments.
      forgetting: the objective of the forgetting branch; None takes `config.objective`.

    Returns:
      The unlearner.

    Raises:
      InputError: the accessible retain set is too small for the query sets.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.models import from_functions
      >>> from ltu_jax.unlearners.ltu import match_membership
      >>> model = from_functions(lambda key, x: jnp.ones((4, 3)), lambda w, x: x @ w, name="linear")
      >>> spec = DataSpec(50, 200, 100, 3, jax.ShapeDtypeStruct((1, 4), jnp.float32))
      >>> paper = match_membership(target="push")
      >>> ltu(model, spec, LTUConfig(steps=20), forgetting=paper).num_steps
      20

    References:
      Huang, Foo & Liu, *Learning to Unlearn for Robust Machine Unlearning*, arXiv 2407.10494.
    """
    forgetting = forgetting or config.objective.build()
    tasks = ltu_tasks(model, spec, config, forgetting)
    remembering_gradient, forgetting_gradient = (
        gradient_of(inner, model, spec)
        for inner in (config.random_label_inner, config.membership_inner)
    )

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        # Norms, products and updates of one vector are a few operations, whatever the layers.
        params, unravel = ravel_pytree(state.variables.params)
        losses = tasks.losses(state, batch)
        roles = split_tasks(key, forgetting.num_tasks, forgetting.num_support)
        support, query = (role_weights(role, forgetting.num_tasks) for role in roles)

        remember, remembered = remembering_gradient(
            losses.random_labels, losses.queries, params, unravel
        )
        forget, forgot = forgetting_gradient(
            lambda p: (support * losses.membership(p)).mean(),
            lambda p: query * losses.membership(p),
            params,
            unravel,
        )
        direction, conflict = harmonize(
            unravel(remember),
            unravel((config.forget_weight * forget).astype(forget.dtype)),
            config.harmonize,
        )

        state = tasks.descend(key, state, batch, direction)
        return state, {
            "loss_random_label": remembered.tune_loss,
            "loss_remember": remembered.query_losses.mean(),
            "loss_forget": forgot.query_losses.mean(),
            "norm_random_label": remembered.tune_norm,
            "norm_remember": conflict.norms[0],
            "norm_forget": conflict.norms[1],
            "cosine": conflict.cosine,
            "conflict": conflict.conflict,
            "effective_models": state.forgetting.effective,
        }

    invariants = Invariants(uses_validation=True)
    unlearner = Unlearner(
        tasks.prepare, tasks.sample, step, lambda state: state.variables, config.steps, invariants
    )
    return with_weight_noise(unlearner, config.weight_noise) if config.weight_noise else unlearner


def ltu_tasks(model: Model, spec: DataSpec, config: LTUConfig, forgetting: Forgetting) -> Tasks:
    """Return the tasks of both branches, see `make_tasks`."""
    return make_tasks(model, spec, config, forgetting, config.query_sampling, config.support_size)


def gradient_of(inner: InnerStep, model: Model, spec: DataSpec) -> MetaGradient:
    """Return the meta-gradient with this inner step: `(tune, queries, vector, unravel)` to vector.

    Both losses take parameters as the model has them, `unravel(vector)`.
    """
    if not inner.layers:
        return lambda tune, queries, vector, unravel: meta_gradient(
            lambda v: tune(unravel(v)), lambda v: queries(unravel(v)), vector, inner
        )
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    moved = last_layers(model, shapes, spec.inputs, inner.layers).params

    def partial(
        tune: TuneLoss, queries: QueryLosses, vector: jax.Array, unravel: Unravel
    ) -> tuple[jax.Array, MetaInfo]:
        gradient, info = partial_meta_gradient(tune, queries, unravel(vector), inner, moved)
        return ravel_pytree(gradient)[0], info

    return partial


def split_tasks(key: Key, count: int, support: int) -> tuple[jax.Array, jax.Array]:
    """Return the indices of the support and of the queries among K tasks, at random.

    A single task is both.
    """
    order = jax.random.permutation(key, count)
    return (order, order) if count == 1 else (order[:support], order[support:])


def role_weights(chosen: jax.Array, count: int) -> jax.Array:
    """Return weights `[K]` with which the mean over K tasks is that over the `chosen` ones."""
    return jnp.isin(jnp.arange(count), chosen) * (count / len(chosen))
