"""What methods that descend a loss over batches share: options, walks through data, one update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.sampling_order import rows_at
from ltu_jax.types import Examples, Key, Model, PyTree, Variables

LossFn = Callable[[PyTree], tuple[jax.Array, PyTree]]


@dataclass(frozen=True)
class SGDConfig:
    """Options of a method that takes SGD steps over epochs.

    Attributes:
      epochs: passes over the data; each method says over which.
      batch_size: examples per step; cut down to what there is.
      learning_rate: peak of the schedule.
      momentum: of SGD.
      weight_decay: added to the gradient before momentum, as torch's SGD does.
      schedule: `"constant"`, or `"cosine"` down to zero at the last step.

    Raises:
      InputError: a value is out of its range.
    """

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["constant", "cosine"] = "cosine"

    def __post_init__(self):
        check_range(
            self,
            ("epochs", "batch_size", "learning_rate"),
            lambda value: value > 0,
            "a number above 0",
        )
        check_range(self, ("momentum",), lambda x: 0 <= x < 1, "0 or more and below 1")
        check_range(self, ("weight_decay",), lambda x: x >= 0, "a number of at least 0")
        check_range(
            self, ("schedule",), lambda x: x in ("constant", "cosine"), "constant or cosine"
        )

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            rate = optax.cosine_decay_schedule(rate, num_steps)
        return torch_sgd(rate, self.momentum, self.weight_decay)


def torch_sgd(
    learning_rate: optax.ScalarOrSchedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Return SGD as torch defines it: decay joins the gradient, the rate stays out of momentum."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum or None)
    )


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
      opt_state: of `tx`.
      trainable_mask: booleans or 0/1 like the parameters; a weight stays as it is to the bit where
        it is 0, whatever momentum or weight decay would do.

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


def mean_loss(
    model: Model,
    state: PyTree,
    inputs: jax.Array,
    per_example: Callable[[jax.Array], jax.Array],
    *,
    train: bool,
    key: Key | None = None,
) -> LossFn:
    """Return the mean over a batch of `per_example(logits [B, C]) -> [B]` as a `LossFn`."""

    def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
        logits, new_state = model.apply(Variables(params, state), inputs, train=train, key=key)
        return per_example(logits).mean(), new_state

    return loss_fn


def batches_per_pass(num_examples: int, batch_size: int) -> int:
    """Return how many batches one pass takes; the last one borrows from the next pass."""
    return -(-num_examples // batch_size)


def walk(key: Key, index: jax.Array, num_examples: int, batch_size: int) -> jax.Array:
    """Return the rows `[batch_size]` of batch `index` in an endless walk through a set.

    The walk is one permutation after another, each drawn anew from `key`, cut into batches of equal
    size: every example comes once before any comes again, also where a batch exceeds the set.
    """
    positions = index * batch_size + jnp.arange(batch_size)
    first = index * batch_size // num_examples
    passes = first + jnp.arange((batch_size - 2) // num_examples + 2)
    places = positions % num_examples
    rows = jax.vmap(lambda p: rows_at(jax.random.fold_in(key, p), places, num_examples))(passes)
    return rows[positions // num_examples - first, jnp.arange(batch_size)]


def take(tree: PyTree, rows: jax.Array) -> PyTree:
    """Return the rows of every array in `tree`, such as `Examples` with their teacher logits."""
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), tree)


def concatenate(first: Examples, second: Examples) -> Examples:
    """Return the two sets, one after the other."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def take_joint(first: Examples, second: Examples, rows: jax.Array) -> Examples:
    """Return rows of the two sets laid one after the other, without laying them so."""
    size = len(first.labels)
    one = take(first, jnp.minimum(rows, size - 1))
    other = take(second, jnp.maximum(rows - size, 0))
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.reshape(rows < size, (-1, *[1] * (a.ndim - 1))), a, b),
        one,
        other,
    )
