"""SFR-on: now and then a clipped ascent of the forget loss, in between descent of the retain loss.

The ascent moves only weights that matter more for the forget than for the retain set, and examples
that are remembered best weigh most in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
    Info,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.fisher import sum_over_batches
from ltu_jax.unlearners.gradient_method import LossFn, SGDConfig, keep_where, torch_sgd
from ltu_jax.unlearners.sampling import batches_per_pass, shuffled_rows, take, take_joint

EPSILON = 1e-15  # the authors', in ratios of importances and in weights of examples


@dataclass(frozen=True)
class SFROnConfig(SGDConfig):
    """Options of SFR-on.

    All defaults but `epochs` are those of the authors' script for 10 % of CIFAR-10 (Huang et al.
    2024): 1,500 iterations of 128 examples, 4.3 epochs of its retain set. Small data take more.

    Attributes:
      schedule: of the learning rate and of `ascent` alike.
      forget_every: iterations (batches of the retain set) from one ascent to the next.
      ascent: weight of the ascent's loss, alpha in the paper.
      loss_power: an example counts by its loss to the power of minus this; lambda in the paper.
      threshold: least ratio of importances, forget to retain, at which a weight takes part in the
        ascent; gamma in the paper.
      max_norm: of the gradient of an ascent.
      slow_rate: how far the slow weights go towards the fast ones after each iteration; the
        script's 1 goes all the way.
    """

    epochs: int = 5
    learning_rate: float = 0.01
    forget_every: int = 5
    ascent: float = 25.0
    loss_power: float = 0.5
    threshold: float = 1.0
    max_norm: float = 7.0
    slow_rate: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_range(
            self, ("forget_every",), lambda x: x >= 1, "a number of iterations of at least 1"
        )
        check_range(self, ("ascent", "max_norm"), lambda x: x > 0, "a number above 0")
        check_range(self, ("loss_power", "threshold"), lambda x: x >= 0, "a number of at least 0")
        check_range(self, ("slow_rate",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`; both updates of an iteration go alike."""
        num_iterations = int(place(num_steps - 1, self.forget_every)[0]) + 1

        def rate(step: jax.Array) -> jax.Array:
            iteration, _ = place(step, self.forget_every)
            return self.learning_rate * self.decay(iteration * (1 / num_iterations))

        return torch_sgd(rate, self.momentum, self.weight_decay)

    def decay(self, progress: jax.Array) -> jax.Array:
        """Return the factor of learning rate and ascent at a share `progress` of the run."""
        return 0.5 * (1 + jnp.cos(jnp.pi * progress)) if self.schedule == "cosine" else 1.0


class SFROnState(NamedTuple):
    """What SFR-on carries.

    Attributes:
      variables: the network, with the fast weights.
      slow: the slow weights, those after the last iteration.
      opt_state: of the optimizer, which ascent and descent share.
      salient: booleans like the parameters, True where the ascent may move a weight.
      order_key: of the order in which examples come.
    """

    variables: Variables
    slow: PyTree
    opt_state: optax.OptState
    salient: PyTree
    order_key: Key


class SFROnBatch(NamedTuple):
    """Examples `[B]`, of one set.

    Attributes:
      examples: of the forget or of the retain set.
      is_forget: which.
      progress: share of the run's iterations that is over.
    """

    examples: Examples
    is_forget: jax.Array
    progress: jax.Array


def sfr_on(
    model: Model,
    spec: DataSpec,
    config: SFROnConfig = SFROnConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build SFR-on, the authors' online algorithm (Huang et al. 2024, arXiv 2409.19732).

    BatchNorm normalises with the batch, and its statistics follow both sets, except where the
    importances are taken: those are of the network in evaluation mode.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `SFROnConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner; an ascent and the descent that follows it are two steps.
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    num_iterations = config.epochs * batches_per_pass(num_retain, batch_size)
    num_steps = num_iterations + batches_per_pass(num_iterations, config.forget_every)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> SFROnState:
        order_key, forget_key, retain_key = jax.random.split(key, 3)
        # Squares of mean gradients fall with the size of a batch: it has to be the same for both.
        size = min(batch_size, num_forget)
        forget, retain = (
            importance(model, variables, shuffled(one_key, examples, size), size)
            for one_key, examples in ((forget_key, data.forget), (retain_key, data.retain))
        )
        salient = saliency(forget, retain, config.threshold)
        opt_state = tx.init(variables.params)
        return SFROnState(variables, variables.params, opt_state, salient, order_key)

    def sample(key: Key, t: jax.Array, state: SFROnState, data: UnlearnData) -> SFROnBatch:
        del key
        iteration, is_forget = place(t, config.forget_every)
        forget_key, retain_key = jax.random.split(state.order_key)
        forget_rows = shuffled_rows(
            forget_key, iteration // config.forget_every, num_forget, batch_size
        )
        retain_rows = shuffled_rows(retain_key, iteration, num_retain, batch_size)
        rows = jnp.where(is_forget, forget_rows, num_forget + retain_rows)
        examples = take_joint(data.forget, data.retain, rows)
        return SFROnBatch(examples, is_forget, iteration * (1 / num_iterations))

    def step(key: Key, state: SFROnState, batch: SFROnBatch) -> tuple[SFROnState, Info]:
        variables = state.variables
        loss_fn = _loss_fn(model, config, variables.state, batch, key)
        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
        ascent, norm = clip(keep_where(state.salient, grads), config.max_norm)
        updates, opt_state = tx.update(
            _where(batch.is_forget, ascent, grads), state.opt_state, variables.params
        )
        fast = optax.apply_updates(variables.params, updates)
        mixed = jax.tree.map(
            lambda x, y: config.slow_rate * x + (1 - config.slow_rate) * y, fast, state.slow
        )
        params = _where(batch.is_forget, fast, mixed)
        slow = _where(batch.is_forget, state.slow, mixed)
        state = SFROnState(
            Variables(params, model_state), slow, opt_state, state.salient, state.order_key
        )
        return state, {"loss": loss, "salient_gradient_norm": norm}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


def place(step: jax.Array, forget_every: int) -> tuple[jax.Array, jax.Array]:
    """Return the iteration that a step belongs to, and whether the step is its ascent.

    >>> [(int(i), bool(f)) for i, f in (place(t, 2) for t in range(5))]
    [(0, True), (0, False), (1, False), (2, True), (2, False)]
    """
    rounds, position = step // (forget_every + 1), step % (forget_every + 1)
    return rounds * forget_every + jnp.maximum(position - 1, 0), position == 0


def importance(model: Model, variables: Variables, examples: Examples, batch_size: int) -> PyTree:
    r"""Return :math:`E_b[(\nabla \frac{1}{|b|} \sum_{i \in b} \ell_i)^2]` per weight.

    The network is in evaluation mode; b runs over batches in order. This is the authors' stand-in
    for the diagonal of the Fisher information, and equal to it in batches of one example.
    """

    def loss_fn(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        return cross_entropy(logits, batch.labels).mean()

    def square(params: PyTree, batch: Examples) -> PyTree:
        return jax.tree.map(jnp.square, jax.grad(loss_fn)(params, batch))

    total = sum_over_batches(square, variables.params, examples, batch_size)
    num_batches = batches_per_pass(len(examples.labels), batch_size)
    return jax.tree.map(lambda x: x / num_batches, total)


def saliency(forget: PyTree, retain: PyTree, threshold: float) -> PyTree:
    """Return booleans: where the ratio of two sets' importances is at least `threshold`."""
    return jax.tree.map(lambda f, r: (f + EPSILON) / (r + EPSILON) >= threshold, forget, retain)


def shuffled(key: Key, examples: Examples, batch_size: int) -> Examples:
    """Return the examples in random order, the last batch filled up from the first."""
    size = len(examples.labels)
    rows = jnp.arange(batches_per_pass(size, batch_size) * batch_size) % size
    return take(examples, jax.random.permutation(key, size)[rows])


def weighted_loss(losses: jax.Array, power: float) -> jax.Array:
    r"""Return :math:`\sum_i w_i \ell_i / \sum_i w_i` of `losses` `[B]`.

    The weights :math:`w_i = 1 / (\ell_i^\lambda + 10^{-15})` take no gradient.
    """
    weights = 1 / (jax.lax.stop_gradient(losses) ** power + EPSILON)
    return jnp.sum(weights / weights.sum() * losses)


def clip(grads: PyTree, max_norm: float) -> tuple[PyTree, jax.Array]:
    """Return gradients of at most `max_norm`, as torch clips, and their norm before."""
    norm = optax.tree.norm(grads)
    scale = jnp.minimum(1, max_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: scale * g, grads), norm


def _loss_fn(
    model: Model, config: SFROnConfig, model_state: PyTree, batch: SFROnBatch, key: Key
) -> LossFn:
    weight = config.ascent * config.decay(batch.progress)

    def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
        variables = Variables(params, model_state)
        logits, new_state = model.apply(variables, batch.examples.inputs, train=True, key=key)
        losses = _precise_cross_entropy(logits, batch.examples.labels)
        ascent = -weight * weighted_loss(losses, config.loss_power)
        return jnp.where(batch.is_forget, ascent, losses.mean()), new_state

    return loss_fn


def _precise_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # A loss that single precision rounds to zero would get all of its batch's weight.
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    rivals = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return jax.nn.softplus(rivals - jnp.sum(jnp.where(own, logits, 0), axis=-1))


def _where(condition: jax.Array, one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)


METHOD = Method(
    name="sfr_on",
    summary="clipped ascent on salient weights every few descents on the retain set",
    reference="Huang et al. 2024, arXiv 2409.19732",
    build=sfr_on,
    config=SFROnConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "ascent": LogUniform(5.0, 500.0),
        "epochs": Choice((5, 10, 20)),
    },
)
