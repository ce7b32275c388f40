r"""Methods that descend a loss: the optimizer step they share, and its options.

A method says what a step samples and which loss it descends:

.. math:: \theta_{t+1} = \theta_t + m \odot \mathrm{tx}\big(m \odot \nabla L(\theta_t, b_t)\big)

with the batch :math:`b_t` from `sample`, the loss :math:`L` from `loss`, an optional mask of
trainable weights :math:`m` and an optax optimizer `tx`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from ltu_jax.training.optimizers import Rate, torch_sgd
from ltu_jax.types import (
    Info,
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
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ShareBelowOne,
)

LossFn = Callable[[PyTree], tuple[jax.Array, PyTree]]


# Numbers of `SGDConfig` for `Method.traced`.
SGD_NUMBERS = ("epochs", "learning_rate", "momentum", "weight_decay")


@dataclass(frozen=True)
class SGDConfig(Config):
    """Options of a method that takes SGD steps over epochs.

    Attributes:
      epochs: passes over the data.
      batch_size: examples per step, at most as many as there are.
      learning_rate: peak of the schedule.
      momentum: SGD momentum.
      weight_decay: added to the gradient before momentum, as torch's SGD does.
      schedule: `"constant"`, or `"cosine"` down to zero at the last step.
    """

    epochs: PositiveInt = 5
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 0.01
    momentum: ShareBelowOne = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    schedule: Literal["constant", "cosine"] = "cosine"

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`."""
        rate = Rate(
            self.learning_rate, steps=math.inf if self.schedule == "constant" else num_steps
        )
        return torch_sgd(rate, self.momentum, self.weight_decay)


class State(NamedTuple):
    """State of a method that descends a loss.

    Attributes:
      variables: parameters and model state.
      order_key: key of the shuffled epoch order and of all else that `sample` draws.
      extra: what `prepare` computed for later steps (teacher logits, ...), any pytree.
      trainable_mask: booleans like the parameters, False where a weight stays as it is to the bit;
        None: every weight is trained.
      opt_state: state of the optimizer; `gradient_method` sets it after `prepare`.
    """

    variables: Variables
    order_key: Key
    extra: PyTree = None
    trainable_mask: PyTree | None = None
    opt_state: Any = None


class Loss(Protocol):
    """What a step descends."""

    def __call__(
        self, key: Key, params: PyTree, state: State, batch: PyTree
    ) -> tuple[jax.Array, PyTree]:
        """Return the scalar loss at `params` and the new model state."""
        ...


def gradient_method(
    tx: optax.GradientTransformation,
    num_steps: int,
    *,
    sample: Callable[[jax.Array, State, UnlearnData], PyTree],
    loss: Loss,
    prepare: Callable[[Key, Variables, UnlearnData], State] | None = None,
    info: Callable[[jax.Array], Info] = lambda loss: {"loss": loss},
    invariants: Invariants = Invariants(),  # noqa: B008
) -> Unlearner:
    """Return the unlearner that takes `num_steps` optimizer steps down `loss`.

    Args:
      tx: the optimizer.
      num_steps: how many steps to take; see `sampling.Epochs`.
      sample: `(t, state, data) -> batch`, the batch of step `t`, any pytree; the same at every
        call, as its randomness comes from `state.order_key`.
      loss: see `Loss`; `mean_loss` makes one of a loss per example.
      prepare: `(key, variables, data) -> State`, without `opt_state`; None starts at `variables`
        with `key` as the key of the order.
      info: from the loss of a step to its named diagnostics.
      invariants: see `types.Invariants`. Set its `trainable_mask` to `masked` where `prepare`
        returns a mask.

    Returns:
      The unlearner, whose state is a `State` and whose info is that of `info`.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.training.losses import cross_entropy
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> loss = mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels))
      >>> method = gradient_method(
      ...     optax.sgd(0.1), 20, sample=lambda t, state, data: data.retain, loss=loss
      ... )
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["loss"][-1] < history["loss"][0])
      True
    """

    def start(key: Key, variables: Variables, data: UnlearnData) -> State:
        state = prepare(key, variables, data) if prepare else State(variables, key)
        return state._replace(opt_state=tx.init(state.variables.params))

    def draw(key: Key, t: jax.Array, state: State, data: UnlearnData) -> PyTree:
        del key  # every step draws from `order_key`, so that epochs are shuffled as a whole
        return sample(t, state, data)

    def step(key: Key, state: State, batch: PyTree) -> tuple[State, Info]:
        variables, opt_state, value = descend(
            tx,
            lambda params: loss(key, params, state, batch),
            state.variables,
            state.opt_state,
            trainable_mask=state.trainable_mask,
        )
        return state._replace(variables=variables, opt_state=opt_state), info(value)

    return Unlearner(start, draw, step, lambda state: state.variables, num_steps, invariants)


def masked(state: State) -> PyTree:
    """Return the mask of trainable weights, for `Invariants.trainable_mask`."""
    return state.trainable_mask


def mean_loss(model: Model, per_example: Callable[[jax.Array, Any], jax.Array]) -> Loss:
    """Return the mean of `per_example(logits [B, C], batch) -> [B]` in training mode.

    Args:
      model: takes `batch.inputs`.
      per_example: the loss of each example.
    """

    def loss(key: Key, params: PyTree, state: State, batch: Any) -> tuple[jax.Array, PyTree]:
        variables = Variables(params, state.variables.state)
        logits, model_state = model.apply(variables, batch.inputs, train=True, key=key)
        return per_example(logits, batch).mean(), model_state

    return loss


def descend(
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    variables: Variables,
    opt_state: optax.OptState,
    *,
    trainable_mask: PyTree | None = None,
) -> tuple[Variables, optax.OptState, jax.Array]:
    """Take one optimizer step down `loss_fn`.

    Args:
      tx: the optimizer.
      loss_fn: `params -> (scalar loss, new model state)`.
      variables: where the gradient is taken.
      opt_state: state of `tx`.
      trainable_mask: booleans or 0/1 like the parameters; where it is 0 a weight stays as it is to
        the bit, despite momentum and weight decay.

    Returns:
      The new variables, the new optimizer state and the loss.
    """
    (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
    updates, opt_state = tx.update(keep_where(trainable_mask, grads), opt_state, variables.params)
    params = optax.apply_updates(variables.params, keep_where(trainable_mask, updates))
    return Variables(params, model_state), opt_state, loss


def keep_where(trainable_mask: PyTree | None, tree: PyTree) -> PyTree:
    """Return `tree` with zeros where `trainable_mask` is 0; `None` keeps all of it."""
    if trainable_mask is None:
        return tree
    return jax.tree.map(lambda keep, x: jnp.where(keep, x, jnp.zeros_like(x)), trainable_mask, tree)
