"""Supervised training of the original and the retrained models."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.data.on_disk import OnDisk
from ltu_jax.errors import check_integer, check_range
from ltu_jax.training.compilation import jit
from ltu_jax.training.devices import Parallel, split_batch
from ltu_jax.training.loop import History, run
from ltu_jax.training.optimizers import Rate, torch_sgd
from ltu_jax.training.resume import Saver
from ltu_jax.training.sampling_order import rows_at
from ltu_jax.training.steps import Step
from ltu_jax.training.streaming import batches
from ltu_jax.types import Array, Examples, Key, Model, Variables


@dataclass(frozen=True)
class Recipe:
    """Training from scratch: SGD with momentum and a cosine schedule.

    Attributes:
      epochs: number of passes over the training examples.
      batch_size: examples per step; a remainder of an epoch is skipped.
      learning_rate: peak of the schedule, reached after `warmup` of the steps.
      momentum: SGD momentum.
      weight_decay: factor of the parameters added to the gradient before momentum, as in torch.
      warmup: share of the steps with a linearly increasing learning rate.
      augment: pad, crop and flip images, if the data set allows it.

    Raises:
      InputError: a value is out of its range.
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    augment: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            check_integer(name, getattr(self, name))
        positive = ("epochs", "batch_size", "learning_rate")
        check_range(self, positive, lambda x: 0 < x < math.inf, "a number above 0")
        check_range(self, ("momentum", "warmup"), lambda x: 0 <= x < 1, "0 or more and below 1")

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`."""
        rate = Rate(self.learning_rate, int(self.warmup * num_steps), num_steps)
        return torch_sgd(rate, self.momentum, self.weight_decay)


# `mlp` and `cnn`: tuned on seeds and splits that no reported table uses. Without augmentation small
# models memorise like large ones, so that there is something to forget.
RECIPES = {
    "mlp": Recipe(epochs=40, batch_size=128, learning_rate=0.05),
    "cnn": Recipe(epochs=24, learning_rate=0.05, warmup=0.1),
    "resnet20": Recipe(epochs=60, learning_rate=0.1, warmup=0.05, augment=True),
    "resnet18": Recipe(epochs=60, learning_rate=0.1, warmup=0.05, augment=True),
    "vit_tiny": Recipe(epochs=60, learning_rate=0.02, warmup=0.1, augment=True),
}


def recipe_for(model_name: str) -> Recipe:
    """Return the recipe of a built-in model, or a general one for other models."""
    return RECIPES.get(model_name, Recipe(warmup=0.1))


class TrainState(NamedTuple):
    """State of supervised training.

    Attributes:
      variables: of the model.
      opt_state: of the optimizer.
    """

    variables: Variables
    opt_state: optax.OptState


class TrainData(NamedTuple):
    """Data of supervised training.

    Attributes:
      examples: on the device, `[N, ...]`; several trainings may share them.
      rows: `[n]`, the examples of this training.
      order_key: of the shuffled epoch orders.
    """

    examples: Examples
    rows: jax.Array
    order_key: Key


def train(
    model: Model,
    examples: Examples,
    recipe: Recipe,
    *,
    key: Key,
    on_info: Callable[[int, dict[str, float]], None] | None = None,
    saver: Saver | None = None,
    parallel: Parallel | None = None,
) -> tuple[Variables, History]:
    """Train `model` from scratch.

    Args:
      model: takes raw inputs.
      examples: on the device, `[N, ...]`; or on disk, with the same result.
      recipe: see `Recipe`.
      key: of initial weights, order, dropout and augmentation.
      on_info: called with `(step, {"loss": ..., "accuracy": ...})`.
      saver: see `loop.run`.
      parallel: devices of the steps; None is one.

    Returns:
      The trained variables and the history of loss and accuracy.
    """
    num_examples = len(examples.labels)
    inputs = jnp.asarray(examples.inputs[:1])
    state, order_key, run_key = start(key, model, recipe, inputs, num_examples)
    num_steps = train_steps(num_examples, recipe)
    if isinstance(examples.inputs, OnDisk):
        step, data = streamed_step(model, recipe, num_examples, parallel), None
        batch_size = min(recipe.batch_size, num_examples)
        rows_of_step = jax.jit(lambda key, t: epoch_rows(key, t, num_examples, batch_size))
        feed = batches(
            examples,
            batch_size,
            lambda t: np.asarray(rows_of_step(order_key, t)),
            num_steps,
            parallel=parallel,
        )
    else:
        step, feed = training_step(model, recipe, num_examples, parallel), None
        data = TrainData(examples, jnp.arange(num_examples), order_key)
    state, history = run(
        step,
        state,
        data,
        key=run_key,
        num_steps=num_steps,
        on_info=on_info,
        saver=saver,
        parallel=parallel,
        feed=feed,
    )
    return state.variables, history


def start(
    key: Key, model: Model, recipe: Recipe, inputs: Array, num_examples: int
) -> tuple[TrainState, Key, Key]:
    """Return the initial state of a training, the key of its order and the key of its steps.

    Args:
      key: of the training.
      model: takes raw inputs.
      recipe: see `Recipe`.
      inputs: `[1, ...]`, any example, for its shape.
      num_examples: number of training examples.
    """
    init_key, run_key = jax.random.split(key)
    variables = jit(model.init, small=True)(init_key, inputs)
    order_key, run_key = jax.random.split(run_key)
    tx = recipe.optimizer(train_steps(num_examples, recipe))
    return TrainState(variables, tx.init(variables.params)), order_key, run_key


# Cached, so that trainings with the same settings share their programs.
@lru_cache(maxsize=8)
def training_step(
    model: Model, recipe: Recipe, num_examples: int, parallel: Parallel | None = None
) -> Step:
    """Return the step of a training on `num_examples`, whose data are `TrainData`."""
    tx = recipe.optimizer(train_steps(num_examples, recipe))
    batch_size = min(recipe.batch_size, num_examples)

    def draw(key: Key, t: jax.Array, state: TrainState, data: TrainData) -> Examples:
        del key, state
        rows = data.rows[epoch_rows(data.order_key, t, num_examples, batch_size)]
        batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), data.examples)
        return split_batch(batch, parallel)

    return Step(draw, partial(_sgd_step, model, tx))


def streamed_step(
    model: Model, recipe: Recipe, num_examples: int, parallel: Parallel | None = None
) -> Step:
    """Return the step of a training on `num_examples`, whose data are batches of `Examples`."""
    tx = recipe.optimizer(train_steps(num_examples, recipe))

    def draw(key: Key, t: jax.Array, state: TrainState, data: Examples) -> Examples:
        del key, t, state
        return split_batch(data, parallel)

    return Step(draw, partial(_sgd_step, model, tx))


def train_steps(num_examples: int, recipe: Recipe) -> int:
    """Return the number of steps of `recipe` on `num_examples`."""
    return recipe.epochs * max(num_examples // recipe.batch_size, 1)


def epoch_rows(key: Key, t: jax.Array | int, num_examples: int, batch_size: int) -> jax.Array:
    """Return the rows `[batch_size]` of batch `t`, with a new shuffled order in every epoch.

    Examples that do not fill a batch at the end of an epoch are skipped in it.
    """
    epoch, position = jnp.divmod(t, max(num_examples // batch_size, 1))
    positions = position * batch_size + jnp.arange(batch_size)
    return rows_at(jax.random.fold_in(key, epoch), positions, num_examples)


def _sgd_step(model: Model, tx, key: Key, state: TrainState, batch: Examples):
    def loss_fn(params):
        variables = Variables(params, state.variables.state)
        logits, model_state = model.apply(variables, batch.inputs, train=True, key=key)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
        return loss, (model_state, jnp.mean(logits.argmax(-1) == batch.labels))

    (loss, (model_state, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.variables.params
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.variables.params)
    variables = Variables(optax.apply_updates(state.variables.params, updates), model_state)
    return state._replace(variables=variables, opt_state=opt_state), {
        "loss": loss,
        "accuracy": accuracy,
    }


def predict(model: Model, variables: Variables, inputs, *, batch_size: int = 512) -> jax.Array:
    """Return the logits `[N, C]` of `inputs`, computed in batches in evaluation mode."""
    forward = jit(model.apply)
    batch_size = min(batch_size, len(inputs))
    logits = []
    for start in range(0, len(inputs), batch_size):
        batch = jnp.asarray(inputs[start : start + batch_size])
        # A short last batch would be compiled separately: pad it and drop the padding.
        missing = batch_size - len(batch)
        padded = jnp.concatenate([batch, jnp.asarray(inputs[:missing])]) if missing else batch
        logits.append(forward(variables, padded)[0][: len(batch)])
    return jnp.concatenate(logits)
