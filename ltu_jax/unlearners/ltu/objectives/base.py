"""The interface of forgetting objectives, and the outputs that they are fitted to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Examples, Key, Model, UnlearnData, Variables
from ltu_jax.unlearners.ltu.objectives.reference import (
    Reference,
    TargetSource,
    find_reference,
    surrogate_targets,
)

Logits = Examples  # logits `[n, C]` in place of inputs


class Context(NamedTuple):
    """The original model's outputs, and an estimate of the retrained model's.

    Attributes:
      model: takes raw inputs.
      variables: the original model.
      data: the examples that the method may see.
      retain: the original's logits for accessible retain examples.
      validation: the original's logits for validation examples.
      kept: `[C]` booleans, the classes with at least one accessible retain example.
      reference: outputs of a reference model; None where held-out examples suffice.
      targets: surrogate targets of the forget set, logits `[M, C]` and labels `[M]`.
    """

    model: Model
    variables: Variables
    data: UnlearnData
    retain: Logits
    validation: Logits
    kept: Array
    reference: Reference | None
    targets: tuple[Array, Array]


def make_context(
    key: Key,
    model: Model,
    variables: Variables,
    data: UnlearnData,
    source: TargetSource,
    kept: Array | None = None,
) -> Context:
    """Run the original model, and train a reference model where one is needed.

    Args:
      key: PRNG key of the reference model's training.
      model: takes raw inputs.
      variables: the original model.
      data: the examples that the method may see. With source `"heldout"` no forget input is read.
      source: the source of the surrogate targets, see `TargetSource`.
      kept: `[C]` booleans, the classes with at least one accessible retain example; None: all.
    """

    def outputs(part: Examples) -> Logits:
        return Logits(predict(model, variables, part.inputs), part.labels)

    retain, validation = outputs(data.retain), outputs(data.validation)
    kept = np.ones(retain.inputs.shape[1], bool) if kept is None else kept
    reference = None
    if source != "heldout":
        answers = UnlearnData(outputs(data.forget), retain, validation)
        reference = find_reference(key, model, data, answers, ~kept, source)
    targets = surrogate_targets(data.forget.labels, validation, ~kept, reference)
    return Context(model, variables, data, retain, validation, kept, reference, targets)


class Forgetting(NamedTuple):
    """The objective of the forgetting branch: K losses on a batch of the forget set.

    Attributes:
      init: `(key, context, size) -> state`, called once; `size` is that of the batches. The state
        is a pytree with a field `effective`: the effective number of different losses among K.
      sample: `(key, state, rows) -> draw`, called in every step: what is random in it, and what
        belongs to the examples of the batch, whose positions in the forget set are `rows` `[B]`.
      losses: `(state, draw, logits [B, C], labels [B]) -> [K]`, differentiable in `logits`. It
        reads nothing from the state whose shape depends on the request.
      num_tasks: K.
      num_support: how many of the K losses are the support of a step; the others are its queries.
    """

    init: Callable[[Key, Context, int], Any]
    sample: Callable[[Key, Any, jax.Array], Any]
    losses: Callable[[Any, Any, jax.Array, Array], jax.Array]
    num_tasks: int
    num_support: int


def no_draw(key: Key, state: Any, rows: jax.Array) -> tuple[()]:
    """Return the draw of an objective without randomness in its steps."""
    del key, state, rows
    return ()
