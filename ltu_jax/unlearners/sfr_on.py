"""SFR-on: clipped ascent on salient weights every few descents on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.types import (
    Array,
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
from ltu_jax.unlearners.base import (
    Choice,
    LogUniform,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from ltu_jax.unlearners.fisher import sum_over_batches
from ltu_jax.unlearners.gradient_method import LossFn, SGDConfig, keep_where
from ltu_jax.unlearners.sampling import batches_per_pass, shuffled_rows, take, take_joint
from ltu_jax.unlearners.slow_weights import where, with_slow_weights

EPSILON = 1e-15  # the authors', in ratios of importances and in weights of examples


@dataclass(frozen=True)
class SFROnConfig(SGDConfig):
    """Options of SFR-on.

    All defaults but `epochs` are those of the authors' script for 10 % of CIFAR-10: 1,500
    iterations of 128 examples are 4.3 epochs of its retain set. Small data need more epochs.

    Attributes:
      schedule: schedule of the learning rate and of `ascent`.
      forget_every: iterations (batches of the retain set) per ascent.
      ascent: alpha, weight of the ascent's loss.
      loss_power: lambda; an example's weight is its loss to the power of minus this.
      threshold: gamma, least ratio of forget to retain importance of a weight that ascends.
      max_norm: largest norm of the gradient of an ascent.
      slow_rate: share of the way that the slow weights move after each iteration; 1 has none.
    """

    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 0.01
    forget_every: PositiveInt = 5
    ascent: PositiveFloat = 25.0
    loss_power: NonNegativeFloat = 0.5
    threshold: NonNegativeFloat = 1.0
    max_norm: PositiveFloat = 7.0
    slow_rate: PositiveShare = 1.0

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer of a run; ascent and descent of an iteration share its rate."""
        num_iterations = int(place(num_steps - 1, self.forget_every)[0]) + 1

        def rate(step: ArrayLike) -> jax.Array:
            iteration, _ = place(jnp.asarray(step), self.forget_every)
            return jnp.asarray(self.learning_rate * self.decay(iteration * (1 / num_iterations)))

        return torch_sgd(rate, self.momentum, self.weight_decay)

    def decay(self, progress: jax.Array) -> jax.Array | float:
        """Return the factor on learning rate and ascent at a share `progress` of the run."""
        return 0.5 * (1 + jnp.cos(jnp.pi * progress)) if self.schedule == "cosine" else 1.0


class SFROnState(NamedTuple):
    """State of SFR-on.

    Attributes:
      variables: the model.
      opt_state: optimizer state, shared by ascent and descent.
      salient: booleans like the parameters, True where the ascent may move a weight.
      order_key: key of the order of the examples.
    """

    variables: Variables
    opt_state: optax.OptState
    salient: PyTree
    order_key: Key


class SFROnBatch(NamedTuple):
    """Input of one step.

    Attributes:
      examples: `[B]` examples of the forget or of the retain set.
      is_forget: whether they are of the forget set.
      progress: share of the run's iterations before this one.
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
    r"""Build SFR-on, the authors' online algorithm.

    With :math:`I_f, I_r` the importances of the weights to forget and retain set, fixed at the
    start, an ascent and a descent step are

    .. math::
        \theta &\leftarrow \theta + \eta\, [I_f / I_r \ge \gamma] \odot
        clip(\alpha \nabla \textstyle\sum_i w_i \ell_i), \quad
        w_i \propto \ell_i^{-\lambda} \\
        \theta &\leftarrow \theta - \eta\, \nabla L_{retain}

    before momentum and weight decay, which both steps share. BatchNorm is in training mode, except
    for the importances.

    Returns:
      The unlearner; an ascent and the descent that follows are two steps. `info` holds the `loss`
      and `salient_gradient_norm`, the norm before clipping.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> unlearner, key = sfr_on(model, spec), jax.random.key(0)
      >>> unlearned, history = unlearn(unlearner, variables, data, key=key)
      >>> history["loss"].shape
      (6,)

    References:
      Huang et al., "Unified Gradient-Based Machine Unlearning with Remain Geometry
      Enhancement", 2024, https://arxiv.org/abs/2409.19732
    """
    num_forget, num_retain = spec.num_forget, spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    num_iterations = config.epochs * batches_per_pass(num_retain, batch_size)
    num_steps = num_iterations + batches_per_pass(num_iterations, config.forget_every)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> SFROnState:
        order_key, forget_key, retain_key = jax.random.split(key, 3)
        # Squares of mean gradients fall with the batch size, so both sets need the same one.
        size = min(batch_size, num_forget)
        forget, retain = (
            importance(model, variables, shuffled(one_key, examples, size), size)
            for one_key, examples in ((forget_key, data.forget), (retain_key, data.retain))
        )
        salient = saliency(forget, retain, config.threshold)
        return SFROnState(variables, tx.init(variables.params), salient, order_key)

    def sample(key: Key, t: jax.Array, state: SFROnState, data: UnlearnData) -> SFROnBatch:
        del key
        iteration, is_forget = place(t, config.forget_every)
        forget_key, retain_key = jax.random.split(state.order_key)
        ascent = iteration // config.forget_every
        rows = jnp.where(
            is_forget,
            shuffled_rows(forget_key, ascent, num_forget, batch_size),
            num_forget + shuffled_rows(retain_key, iteration, num_retain, batch_size),
        )
        examples = take_joint(data.forget, data.retain, rows)
        return SFROnBatch(examples, is_forget, iteration * (1 / num_iterations))

    def step(key: Key, state: SFROnState, batch: SFROnBatch) -> tuple[SFROnState, Info]:
        variables = state.variables
        loss_fn = _loss_fn(model, config, variables.state, batch, key)
        (loss, model_state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
        ascent, norm = clip(keep_where(state.salient, grads), config.max_norm)
        updates, opt_state = tx.update(
            where(batch.is_forget, ascent, grads), state.opt_state, variables.params
        )
        params = optax.apply_updates(variables.params, updates)
        state = state._replace(variables=Variables(params, model_state), opt_state=opt_state)
        return state, {"loss": loss, "salient_gradient_norm": norm}

    unlearner = Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)
    if config.slow_rate == 1:
        return unlearner

    def is_descent(t: jax.Array) -> jax.Array:
        return jnp.logical_not(place(t, config.forget_every)[1])

    return with_slow_weights(unlearner, config.slow_rate, is_descent)


def place(step: jax.Array | int, forget_every: int) -> tuple[jax.Array, jax.Array]:
    """Return the iteration of a step, and whether the step is its ascent.

    >>> [(int(i), bool(f)) for i, f in (place(t, 2) for t in range(5))]
    [(0, True), (0, False), (1, False), (2, True), (2, False)]
    """
    rounds, position = step // (forget_every + 1), step % (forget_every + 1)
    return rounds * forget_every + jnp.maximum(position - 1, 0), jnp.asarray(position == 0)


def importance(model: Model, variables: Variables, examples: Examples, batch_size: int) -> PyTree:
    r"""Return :math:`E_b[(\nabla \frac{1}{|b|} \sum_{i \in b} \ell_i)^2]` per weight.

    In evaluation mode, over batches b in order. The authors use it in place of the diagonal of the
    Fisher information, which it equals in batches of one example.
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


def _precise_cross_entropy(logits: jax.Array, labels: Array) -> jax.Array:
    # A loss that single precision rounds to zero would get all of its batch's weight.
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    rivals = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return jax.nn.softplus(rivals - jnp.sum(jnp.where(own, logits, 0), axis=-1))


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
