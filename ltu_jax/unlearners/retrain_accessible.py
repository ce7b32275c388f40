"""Retraining on the accessible share of the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.supervised import Recipe, epoch_rows, recipe_for, train_steps
from ltu_jax.types import (
    DataSpec,
    Examples,
    Invariants,
    Key,
    Model,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Config, Guarantee, Method
from ltu_jax.unlearners.gradient_method import State, gradient_method, mean_loss
from ltu_jax.unlearners.sampling import take


@dataclass(frozen=True)
class RetrainConfig(Config):
    """Options of retraining.

    Attributes:
      recipe: how the model is trained; None takes `recipe_for(model.name)`. Give the original's if
        it differs.
    """

    recipe: Recipe | None = None


def retrain_accessible(
    model: Model, spec: DataSpec, config: RetrainConfig = RetrainConfig()
) -> Unlearner:
    r"""Build training from new random weights on the accessible retain set.

    .. math:: L(\theta) = CE(f_\theta(x_r), y_r), \qquad \theta \text{ starts at } \theta_{init}

    With all of the retain set (`retain_fraction` 1) this is exact unlearning. With less the model
    generalises like one that was trained on less data. BatchNorm statistics start from new ones
    too. With the same key it equals `training.supervised.train`.

    Returns:
      The unlearner. Info: `loss`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import Guarantee, toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = retrain_accessible(model, spec, RetrainConfig(Recipe(epochs=20)))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True

    References:
      Cao and Yang, "Towards Making Systems Forget with Machine Unlearning", 2015,
      https://doi.org/10.1109/SP.2015.35
    """
    recipe = config.recipe or recipe_for(model.name)
    num_steps = train_steps(spec.num_retain, recipe)
    batch_size = min(recipe.batch_size, spec.num_retain)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        del variables  # nothing of the original is used
        init_key, run_key = jax.random.split(key)
        order_key, _ = jax.random.split(run_key)
        return State(model.init(init_key, data.retain.inputs[:1]), order_key)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Examples:
        return take(data.retain, epoch_rows(state.order_key, t, spec.num_retain, batch_size))

    return gradient_method(
        recipe.optimizer(num_steps),
        num_steps,
        sample=sample,
        loss=mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels)),
        prepare=prepare,
        invariants=Invariants(reinitialised=True, restarts=True),
    )


METHOD = Method(
    name="retrain_accessible",
    summary="train from scratch on the accessible retain share; exact only with all of it",
    reference="Cao & Yang 2015, doi 10.1109/SP.2015.35",
    build=retrain_accessible,
    config=RetrainConfig(),
    guarantee=lambda config: Guarantee("exact"),
)
