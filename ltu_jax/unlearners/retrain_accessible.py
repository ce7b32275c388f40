"""Retraining: a new network, trained on the retain set alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import optax

from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import Recipe, epoch_rows, recipe_for, train_steps
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.gradient_method import descend
from ltu_jax.unlearners.sampling import mean_loss, take


@dataclass(frozen=True)
class RetrainConfig:
    """Options of retraining.

    Attributes:
      recipe: how the network is trained; None takes the one of its name, `recipe_for(model.name)`.
        Pass the original's where that was trained otherwise.
    """

    recipe: Recipe | None = None


class RetrainState(NamedTuple):
    """What retraining carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key


def retrain_accessible(
    model: Model,
    spec: DataSpec,
    config: RetrainConfig = RetrainConfig(),
) -> Unlearner:
    """Build training from fresh random weights on the accessible retain set.

    With all of the retain set (`--retain-fraction 1.0`) this is exact unlearning; with less it is
    a network that knows the accessible share alone, and it generalises as such. BatchNorm starts
    anew too. Key for key it is `training.supervised.train`.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `RetrainConfig`.

    Returns:
      The unlearner.
    """
    recipe = config.recipe or recipe_for(model.name)
    num_retain = spec.num_retain
    batch_size = min(recipe.batch_size, num_retain)
    num_steps = train_steps(num_retain, recipe)
    tx = recipe.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> RetrainState:
        del variables  # nothing of the original is looked at
        init_key, run_key = jax.random.split(key)
        order_key, _ = jax.random.split(run_key)
        fresh = model.init(init_key, data.retain.inputs[:1])
        return RetrainState(fresh, tx.init(fresh.params), order_key)

    def sample(key: Key, t: jax.Array, state: RetrainState, data: UnlearnData) -> Examples:
        del key
        return take(data.retain, epoch_rows(state.order_key, t, num_retain, batch_size))

    def step(key: Key, state: RetrainState, batch: Examples) -> tuple[RetrainState, Info]:
        loss_fn = mean_loss(
            model,
            state.variables.state,
            batch.inputs,
            lambda logits: cross_entropy(logits, batch.labels),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    invariants = Invariants(reinitialised=True, restarts=True)
    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps, invariants)


METHOD = Method(
    name="retrain_accessible",
    summary="train anew on the accessible retain share; exact only with --retain-fraction 1.0",
    reference="Cao & Yang 2015, doi 10.1109/SP.2015.35",
    build=retrain_accessible,
    config=RetrainConfig(),
)
