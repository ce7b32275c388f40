r"""LTU, the unlearner: two meta-gradients and a harmonizer (arXiv 2407.10494).

The method is three lines, found again in `ltu.<locals>.step`::

    remember = meta_gradient(random-label loss on D_f, losses on N query sets of D_r)
    forget   = meta_gradient(losses of some MI models on D_f, losses of the other MI models on D_f)
    theta   <- optimizer(theta, harmonize(remember, forget))

The paper leaves much open; what is chosen here follows experiments and is stated at each knob.
"""

from __future__ import annotations

import jax
import optax

from ltu_jax.types import DataSpec, Info, Invariants, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.harmonize import harmonize
from ltu_jax.unlearners.ltu.meta import meta_gradient
from ltu_jax.unlearners.ltu.tasks import (
    LTUBatch,
    LTUState,
    batch_sizes,
    draw_batch,
    prepare_state,
    tasks,
)


def ltu(model: Model, spec: DataSpec, config: LTUConfig = LTUConfig()) -> Unlearner:
    """Build the LTU unlearner.

    BatchNorm: every pass of both branches normalises with the stored statistics, as the deployed
    model will; the statistics are updated once per outer step, from the query sets. Random-label
    and audit passes never touch them. Dropout and augmentation are off.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `LTUConfig`.

    Returns:
      The unlearner.

    Raises:
      InputError: the accessible retain set is too small for the query sets.
    """
    sizes = batch_sizes(config, spec)
    tx = config.optimizer()

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> LTUState:
        opt_state = tx.init(variables.params)
        return prepare_state(key, model, variables, opt_state, data, spec.num_classes, config)

    def sample(key: Key, t: jax.Array, state: LTUState, data: UnlearnData) -> LTUBatch:
        del t
        return draw_batch(key, state, data, sizes, spec.num_classes, config)

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        params = state.variables.params
        task = tasks(model, state, batch, config)
        support, query = split_tasks(key, *config.membership_tasks())

        remember, remembered = meta_gradient(
            task.random_labels, task.queries, params, config.random_label_inner, config.tune_weight
        )
        forget, forgot = meta_gradient(
            lambda p: task.membership(p)[support].mean(),
            lambda p: task.membership(p)[query],
            params,
            config.membership_inner,
            config.membership_tune_weight,
        )
        forget = optax.tree.scale(config.forget_weight, forget)
        direction, conflict = harmonize(remember, forget, config.harmonize)

        updates, opt_state = tx.update(direction, state.opt_state, params)
        variables = state.variables._replace(params=optax.apply_updates(params, updates))
        variables = refresh_statistics(model, key, variables, batch.queries.inputs)
        info = {
            "loss_random_label": remembered.tune_loss,
            "loss_remember": remembered.query_losses.mean(),
            "loss_forget": forgot.query_losses.mean(),
            "norm_random_label": remembered.tune_norm,
            "norm_remember": conflict.norms[0],
            "norm_forget": conflict.norms[1],
            "cosine": conflict.cosine,
            "conflict": conflict.conflict,
            "effective_models": state.models.effective,
        }
        return state._replace(variables=variables, opt_state=opt_state), info

    invariants = Invariants(uses_validation=True)
    return Unlearner(prepare, sample, step, lambda state: state.variables, config.steps, invariants)


def split_tasks(key: Key, count: int, support: int) -> tuple[jax.Array, jax.Array]:
    """Return which of K tasks are the support and which the queries of this step."""
    order = jax.random.permutation(key, count)
    return (order, order) if count == 1 else (order[:support], order[support:])


def refresh_statistics(model: Model, key: Key, variables: Variables, inputs) -> Variables:
    """Return `variables` with BatchNorm statistics updated by one training pass over `inputs`."""
    if not jax.tree.leaves(variables.state):
        return variables
    _, state = model.apply(variables, inputs, train=True, key=key)
    return variables._replace(state=state)
