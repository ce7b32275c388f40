r"""Held-out distillation: validation outputs that should not change.

With :math:`z` the original's logits and :math:`T` the temperature, every query loss gets the term

.. math:: w\, \tfrac1M \sum_j T^2\, \mathrm{KL}\big(p(z_j / T)\,\|\,p(f_\theta(x_j) / T)\big)

over validation examples :math:`x_j`. It constrains the model between the examples that the method
may see. No label of a validation example is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.training.sampling_order import balanced_rows
from ltu_jax.types import Key, UnlearnData
from ltu_jax.unlearners.base import Config, NonNegativeFloat, PositiveInt
from ltu_jax.unlearners.ltu.objectives.base import Context


@dataclass(frozen=True)
class HeldoutDistillation(Config):
    """Options of held-out distillation.

    Attributes:
      weight: weight in every query loss; 0 switches it off.
      size: validation examples of a step.
    """

    weight: NonNegativeFloat = 0.0
    size: PositiveInt = 128


class HeldoutTeacher(NamedTuple):
    """The original's outputs that should not change.

    Attributes:
      rows: `[n]` validation examples of retained classes.
      logits: `[N, C]` the original's logits for all validation examples.
    """

    rows: jax.Array
    logits: jax.Array


def heldout_teacher(context: Context) -> HeldoutTeacher:
    """Return the validation examples of retained classes on which the reference agrees.

    With a reference there are as many rows as validation examples, some of them repeated. So the
    states of an ensemble of runs have equal shapes.
    """
    logits, labels = jnp.asarray(context.validation.inputs), context.validation.labels
    rows = np.isin(labels, np.flatnonzero(context.kept))
    if context.reference is None:
        return HeldoutTeacher(jnp.asarray(np.flatnonzero(rows)), logits)
    agreed = rows & context.reference.agrees(logits)
    chosen = np.flatnonzero(agreed if agreed.any() else rows)
    return HeldoutTeacher(jnp.asarray(np.resize(chosen, len(labels))), logits)


def draw_heldout(
    key: Key, teacher: HeldoutTeacher, data: UnlearnData, size: int
) -> tuple[jax.Array, jax.Array]:
    """Return inputs `[M, ...]` of random validation examples and the teacher's logits `[M, C]`."""
    # Of all validation examples, so that the number does not depend on the forgotten classes.
    count = min(size, len(teacher.logits))
    rows = teacher.rows[balanced_rows(key, count, len(teacher.rows))]
    return data.validation.inputs[rows], teacher.logits[rows]
