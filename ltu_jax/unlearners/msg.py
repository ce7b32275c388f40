"""Masked small gradients: draw anew what retain and forget set do not disagree on, then train.

A solution of the NeurIPS 2023 unlearning challenge (2nd of those that Deep Unlearn compares, there
`kgltop2`), and with convolution transpose the strongest of the 18 methods in that comparison.

The gradient of the loss over retain examples minus that over the forget set is taken once. In each
convolution kernel, the share of weights where it is smallest in size is drawn anew. Then training
on the retain set goes on, and the convolution weights that were kept receive a tenth of their
gradient. All other weights are neither drawn nor slowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import ltu_jax.unlearners.convolutions as convolutions
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
from ltu_jax.unlearners.gradient_method import SGDConfig, descend, torch_sgd
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take

GRADIENT_BATCH = 256  # bounds memory alone: the sum over batches is the same

# Normal with variance 2 / (H W out), "Kaiming fan-out", as the solution draws.
draw_kernel = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class MSGConfig(SGDConfig):
    """Options of masked small gradients.

    Unless said otherwise, defaults are the challenge solution's, as xcadet/deepunlearn gives them:
    five epochs in batches of 64 at learning rate 0.001, momentum 0.9, weight decay 5e-4. They suit
    the challenge's many retain images; Deep Unlearn searched learning rates from 1e-5 to 0.1, reset
    shares from 0 to 1 and up to a fifth of the epochs of training.

    Attributes:
      reset: share of the weights of each convolution kernel that is drawn anew.
      kept_gradient: factor on the gradient of the convolution weights that were kept; weight decay
        is not scaled.
      warmup: share of the steps in which the learning rate climbs to its peak, before `schedule`
        begins; theirs falls on a straight line, and moves by epochs.
    """

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    reset: float = 0.3
    kept_gradient: float = 0.1
    warmup: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("reset",), lambda x: 0 < x <= 1, "a share above 0 and up to 1")
        check_range(self, ("kept_gradient",), lambda x: 0 <= x <= 1, "a factor from 0 to 1")
        check_range(self, ("warmup",), lambda x: 0 <= x < 1, "0 or more and below 1")

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return the optimizer for a run of `num_steps`."""
        climb = int(self.warmup * num_steps)
        peak = self.learning_rate
        after = optax.constant_schedule(peak)
        if self.schedule == "cosine":
            after = optax.cosine_decay_schedule(peak, num_steps - climb)
        ramp = optax.linear_schedule(peak / (climb + 1), peak, max(climb, 1))
        rate = optax.join_schedules([ramp, after], [climb])
        return torch_sgd(rate, self.momentum, self.weight_decay)


class MSGState(NamedTuple):
    """What the training after the reset carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
      scale: like the parameters, factors on the gradient; a scalar where the whole array trains.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key
    scale: PyTree


def msg(
    model: Model,
    spec: DataSpec,
    config: MSGConfig = MSGConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build the reset of small-gradient convolution weights and training on the retain set.

    The gradients that choose are taken in evaluation mode. In training BatchNorm normalises with
    the batch, and its statistics follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `MSGConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.

    Raises:
      InputError: the network has no convolution.
    """
    convolutions.require(model, spec, METHOD.name)
    num_retain = spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    num_steps = config.epochs * batches_per_pass(num_retain, batch_size)
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> MSGState:
        subset_key, draw_key, order_key = jax.random.split(key, 3)
        gap = gradient_gap(subset_key, model, variables, data)
        small = smallest(gap, config.reset)
        params = redraw(draw_key, variables.params, small)
        scale = gradient_scale(small, config.kept_gradient)
        return MSGState(variables._replace(params=params), tx.init(params), order_key, scale)

    def sample(key: Key, t: jax.Array, state: MSGState, data: UnlearnData) -> Examples:
        del key
        return take(data.retain, shuffled_rows(state.order_key, t, num_retain, batch_size))

    def step(key: Key, state: MSGState, batch: Examples) -> tuple[MSGState, Info]:
        full = mean_loss(
            model,
            state.variables.state,
            batch.inputs,
            lambda logits: cross_entropy(logits, batch.labels),
            train=True,
            key=key,
        )
        variables, opt_state, loss = descend(
            tx,
            lambda params: full(damp(params, state.scale)),
            state.variables,
            state.opt_state,
        )
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


def gradient_gap(key: Key, model: Model, variables: Variables, data: UnlearnData) -> PyTree:
    """Return the gradient of the mean loss over retain examples minus that over the forget set.

    The retain examples are as many as the forget set has, drawn with `key`, or all if fewer.
    """

    def total_loss(params: PyTree, batch: Examples) -> jax.Array:
        logits, _ = model.apply(Variables(params, variables.state), batch.inputs)
        return cross_entropy(logits, batch.labels).sum()

    def mean_gradient(examples: Examples) -> PyTree:
        size = len(examples.labels)
        total = sum_over_batches(
            jax.grad(total_loss), variables.params, examples, min(size, GRADIENT_BATCH)
        )
        return jax.tree.map(lambda x: x / size, total)

    rows = jax.random.permutation(key, len(data.retain.labels))[: len(data.forget.labels)]
    retain, forget = mean_gradient(take(data.retain, rows)), mean_gradient(data.forget)
    return jax.tree.map(jnp.subtract, retain, forget)


def smallest(gap: PyTree, share: float) -> PyTree:
    """Return booleans: in each convolution kernel, the `share` of smallest absolute values.

    Every other array is met by a single False.
    """

    def choose(leaf: jax.Array) -> jax.Array:
        if not convolutions.is_kernel(leaf):
            return jnp.zeros((), bool)
        chosen = jnp.argsort(jnp.abs(leaf).ravel(), stable=True)[: round(share * leaf.size)]
        return jnp.zeros(leaf.size, bool).at[chosen].set(True).reshape(leaf.shape)

    return jax.tree.map(choose, gap)


def redraw(key: Key, params: PyTree, chosen: PyTree) -> PyTree:
    """Return `params` with the convolution weights that are `chosen` drawn anew."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def draw(key: Key, leaf: jax.Array, where: jax.Array) -> jax.Array:
        if not convolutions.is_kernel(leaf):
            return leaf
        return jnp.where(where, draw_kernel(key, leaf.shape, leaf.dtype), leaf)

    return jax.tree.map(draw, keys, params, chosen)


def gradient_scale(chosen: PyTree, kept: float) -> PyTree:
    """Return factors on the gradient: `kept` for convolution weights that are not `chosen`."""
    return jax.tree.map(
        lambda where: jnp.where(where | (not convolutions.is_kernel(where)), 1.0, kept), chosen
    )


def damp(params: PyTree, scale: PyTree) -> PyTree:
    """Return `params` to the bit; a gradient that passes through is multiplied by `scale`."""
    return jax.tree.map(
        lambda x, factor: (
            jax.lax.stop_gradient(x) + factor.astype(x.dtype) * (x - jax.lax.stop_gradient(x))
        ),
        params,
        scale,
    )


METHOD = Method(
    name="msg",
    summary="redraw convolution weights of small gradient, then train on the accessible retain set",
    reference="NeurIPS 2023 unlearning challenge; Cadet et al. 2024, arXiv 2410.01276",
    build=msg,
    config=MSGConfig(),
    space={
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": Choice((5, 10)),
        "reset": LogUniform(0.1, 0.6),
    },
)
