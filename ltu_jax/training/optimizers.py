"""Optimizers whose numbers are in their state, so that one compiled update serves all settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import PyTree


class Stored(NamedTuple):
    """State of an optimizer whose numbers are stored.

    Attributes:
      numbers: arrays; None where a number is part of the program.
      inner: state of the optimizer itself.
    """

    numbers: PyTree
    inner: Any


def stored(
    make: Callable[[Any], optax.GradientTransformation], numbers: PyTree
) -> optax.GradientTransformation:
    """Return `make(numbers)` with the numbers in its state instead of its program.

    Zeros and infinities stay in the program, since `make` may leave out what they switch off.

    Args:
      make: from the numbers to the optimizer; must work on traced numbers.
      numbers: a pytree of numbers.

    Example:
      >>> tx = stored(lambda rate: optax.sgd(rate), 0.5)
      >>> updates, _ = tx.update({"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)}))
      >>> updates["w"].tolist()
      [-0.5]
    """

    def init(params: PyTree) -> Stored:
        arrays = jax.tree.map(lambda x: None if is_fixed(x) else jnp.asarray(x, float), numbers)
        return Stored(arrays, make(numbers).init(params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Stored]:
        known = jax.tree.map(lambda x, array: x if array is None else array, numbers, state.numbers)
        new, inner = make(known).update(updates, state.inner, params)
        # Stored numbers are float32; parameters in half precision stay so.
        return optax.tree.cast_like(new, updates), Stored(
            state.numbers, optax.tree.cast_like(inner, state.inner)
        )

    return optax.GradientTransformation(init, update)


def is_fixed(number: Any) -> bool:
    """Return whether a number is a zero or an infinity, which programs may branch on.

    >>> is_fixed(0.0), is_fixed(0.5), is_fixed(jnp.zeros(()))
    (True, False, False)
    """
    return not isinstance(number, jax.Array) and (number == 0 or math.isinf(number))


class Rate(NamedTuple):
    """A learning rate over the steps of a run: a linear climb, then a fall by a cosine.

    Attributes:
      peak: the highest rate.
      warmup: steps of the climb from 0.
      steps: step at which the rate has fallen to 0; infinity: it stays at the peak.
    """

    peak: float | jax.Array
    warmup: float | jax.Array = 0.0
    steps: float | jax.Array = math.inf

    def at(self, t: jax.typing.ArrayLike) -> jax.Array:
        """Return the rate of step `t`.

        >>> Rate(1.0, warmup=2, steps=6).at(jnp.arange(0, 7, 2)).round(3).tolist()
        [0.0, 1.0, 0.5, 0.0]
        """
        t, rate = jnp.asarray(t), jnp.asarray(self.peak)
        if not (is_fixed(self.steps) and self.steps == math.inf):
            share = jnp.clip((t - self.warmup) / (self.steps - self.warmup), 0.0, 1.0)
            rate = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
        if is_fixed(self.warmup):
            return rate
        return jnp.where(t < self.warmup, self.peak * (t / self.warmup), rate)


class SGDNumbers(NamedTuple):
    """The numbers of `torch_sgd`."""

    rate: Any
    momentum: Any
    weight_decay: Any
    max_norm: Any


def torch_sgd(
    rate: Rate | float | jax.Array | optax.Schedule,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    *,
    max_norm: float = math.inf,
) -> optax.GradientTransformation:
    """Return SGD as torch defines it: decay joins the gradient, the rate stays out of momentum.

    Args:
      rate: of a step; a function of the step is part of the program, everything else is stored.
      momentum: factor of the sum of earlier gradients.
      weight_decay: factor of the parameters added to the gradient before momentum.
      max_norm: bound on the global norm of the gradient, which is scaled down to it.
    """
    schedule = rate if callable(rate) else None

    def make(numbers: SGDNumbers) -> optax.GradientTransformation:
        parts = []
        if not is_fixed(numbers.max_norm):
            parts.append(optax.clip_by_global_norm(numbers.max_norm))
        if not is_fixed(numbers.weight_decay):
            parts.append(optax.add_decayed_weights(numbers.weight_decay))
        rate_at = schedule or _as_rate(numbers.rate).at
        momentum = None if is_fixed(numbers.momentum) else numbers.momentum
        return optax.chain(*parts, optax.sgd(rate_at, momentum))

    number = () if schedule else rate
    return stored(make, SGDNumbers(number, momentum, weight_decay, max_norm))


def _as_rate(rate: Any) -> Rate:
    return rate if isinstance(rate, Rate) else Rate(rate)
