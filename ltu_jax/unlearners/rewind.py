"""Return to the epoch whose forget error matches that of held-out data, for any method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.training.supervised import predict
from ltu_jax.types import (
    Examples,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.sampling import take


class Rewind(NamedTuple):
    """The models to choose from, and the examples that choose.

    Attributes:
      checkpoints: variables with a leading axis `[epochs]`, the newest of each epoch.
      forget: the forget examples whose classes occur in the validation set.
      reference: the validation examples of these classes.
      weights: `[n]` weights of `reference`; they give it the class distribution of `forget`.
    """

    checkpoints: Variables
    forget: Examples
    reference: Examples
    weights: jax.Array


class RewindState(NamedTuple):
    """State of a method with rewind.

    Attributes:
      inner: the state of the method itself.
      rewind: see `Rewind`; `epochs` copies of the model.
    """

    inner: PyTree
    rewind: Rewind


class RewindBatch(NamedTuple):
    """The batch of the method itself, and the epoch of the step."""

    inner: PyTree
    epoch: jax.Array


def with_rewind(
    unlearner: Unlearner, model: Model, epochs: Sequence[int] | np.ndarray
) -> Unlearner:
    r"""Return `unlearner` with its best epoch as the result, in place of the last one.

    Let :math:`\theta_1, \dots, \theta_E` be the models after each epoch, :math:`D_f` the forget set
    and :math:`D_v` the validation examples of its classes, weighted to its class distribution. The
    result is :math:`\theta_e` with

    .. math:: e = \arg\min_e | err(\theta_e; D_f) - err(\theta_E; D_v) |,

    of equals the latest, which has been repaired longest. Forget examples of a class that
    validation lacks are left out. A class that the retain set lacks is not: the last model has not
    seen it either, so its validation error is a fair target.

    Args:
      unlearner: a method whose `finish` can be compiled.
      model: the model that it unlearns.
      epochs: `[num_steps]` epoch of each step, from 0 and ascending.

    Returns:
      The unlearner. It uses validation examples. Its `prepare` raises `InputError` if no validation
      example has a forgotten class.

    Example:
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
      >>> model, variables, data, spec = toy_problem()
      >>> tuning = finetune(model, spec, FineTuneConfig(epochs=2, batch_size=4))
      >>> best = with_rewind(tuning, model, [0, 0, 1, 1])
      >>> best.num_steps, best.invariants.uses_validation
      (4, True)

    References:
      Kurmanji et al., "Towards Unbounded Machine Unlearning", 2023 (SCRUB+R, section 3.2).,
      https://arxiv.org/abs/2302.09880
    """

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> RewindState:
        rewind = start(variables, data, epochs[-1] + 1)
        return RewindState(unlearner.prepare(key, variables, data), rewind)

    def sample(key: Key, t: jax.Array, state: RewindState, data: UnlearnData) -> RewindBatch:
        return RewindBatch(unlearner.sample(key, t, state.inner, data), jnp.asarray(epochs)[t])

    def step(key: Key, state: RewindState, batch: RewindBatch) -> tuple[RewindState, Info]:
        inner, info = unlearner.step(key, state.inner, batch.inner)
        checkpoints = jax.tree.map(
            lambda kept, x: kept.at[batch.epoch].set(x),
            state.rewind.checkpoints,
            unlearner.finish(inner),
        )
        return RewindState(inner, state.rewind._replace(checkpoints=checkpoints)), info

    invariants = of_inner(unlearner.invariants)._replace(uses_validation=True)
    return Unlearner(
        prepare, sample, step, lambda state: choose(model, state.rewind), len(epochs), invariants
    )


def of_inner(invariants: Invariants) -> Invariants:
    """Return the invariants of a wrapper whose state holds the wrapped method's as `inner`."""
    mask = invariants.trainable_mask
    if mask is None:
        return invariants
    return invariants._replace(trainable_mask=lambda state: mask(state.inner))


def start(variables: Variables, data: UnlearnData, epochs: int) -> Rewind:
    """Return space for the model of each epoch, and the examples that will choose one.

    Raises:
      InputError: no forget example has the class of a validation example.
    """
    forget_labels = np.asarray(data.forget.labels)
    labels = np.asarray(data.validation.labels)
    rows, matched = np.isin(forget_labels, labels), np.isin(labels, forget_labels)
    if not matched.any():
        missing = ", ".join(map(str, np.unique(forget_labels)))
        raise InputError(
            "rewind",
            f"is True, but no validation example is of a forgotten class ({missing})",
            "add validation examples of these classes, or give False",
        )
    classes, wanted = np.unique(forget_labels[rows], return_counts=True)
    present = np.unique(labels[matched], return_counts=True)[1]
    weights = (wanted / wanted.sum() / present)[np.searchsorted(classes, labels[matched])]
    return Rewind(
        jax.tree.map(lambda x: jnp.repeat(x[None], epochs, axis=0), variables),
        take(data.forget, jnp.flatnonzero(rows)),
        take(data.validation, jnp.flatnonzero(matched)),
        jnp.asarray(weights),
    )


def choose(model: Model, rewind: Rewind) -> Variables:
    """Return the checkpoint whose forget error is closest to the last one's reference error."""

    def checkpoint(epoch: int) -> Variables:
        return jax.tree.map(lambda x: x[epoch], rewind.checkpoints)

    def errors(epoch: int, examples: Examples) -> np.ndarray:
        logits = predict(model, checkpoint(epoch), examples.inputs)
        return np.asarray(logits.argmax(-1) != examples.labels)

    epochs = range(len(jax.tree.leaves(rewind.checkpoints)[0]))
    target = np.sum(np.asarray(rewind.weights) * errors(epochs[-1], rewind.reference))
    gaps = {e: abs(errors(e, rewind.forget).mean() - target) for e in reversed(epochs)}
    return checkpoint(min(gaps, key=gaps.__getitem__))
