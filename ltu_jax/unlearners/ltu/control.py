r"""The control for LTU: fine-tuning plus membership losses, without the meta scheme."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from ltu_jax.types import DataSpec, Info, Invariants, Key, Model, PyTree, Unlearner
from ltu_jax.unlearners.base import Choice, LogUniform, Method, NonNegativeFloat, PositiveInt
from ltu_jax.unlearners.ltu.config import MATCHING_NUMBERS, MatchingConfig, without_reference
from ltu_jax.unlearners.ltu.objectives.base import Forgetting
from ltu_jax.unlearners.ltu.tasks import LTUBatch, LTUState, make_tasks
from ltu_jax.unlearners.ltu.weight_noise import with_weight_noise


@dataclass(frozen=True)
class MIMatchConfig(MatchingConfig):
    """Options of the control; see `MatchingConfig`.

    Its one query set is as large as LTU's three. LTU adds support and query losses of membership
    models at weight 0.4 each, so `forget_weight` is twice as large.
    """

    query_size: PositiveInt = 192
    forget_weight: NonNegativeFloat = 0.8


def mi_match(
    model: Model,
    spec: DataSpec,
    config: MIMatchConfig = MIMatchConfig(),
    *,
    forgetting: Forgetting | None = None,
) -> Unlearner:
    r"""Build the control: SGD on the retain loss plus the membership losses.

    With the query loss :math:`Q` and the losses :math:`M_k` of LTU on the same batches,

    .. math:: \theta \leftarrow \mathrm{SGD}\big(\theta, \nabla_\theta [Q(\theta)
        + \tfrac\lambda K \sum_k M_k(\theta)]\big).

    What LTU gains over this method is the effect of the meta scheme and the harmonisation.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `MIMatchConfig`.
      forgetting: the objective of the forgetting branch; None takes `config.objective`.

    Returns:
      The unlearner.

    Raises:
      InputError: the accessible retain set is too small.

    Example:
      >>> from ltu_jax.models import from_functions
      >>> model = from_functions(lambda key, x: None, lambda w, x: x @ w, name="linear")
      >>> spec = DataSpec(50, 200, 100, 3, jax.ShapeDtypeStruct((1, 4), float))
      >>> mi_match(model, spec, MIMatchConfig(steps=20)).num_steps
      20

    References:
      A control of ours for Huang, Foo & Liu, *Learning to Unlearn for Robust Machine Unlearning*,
      arXiv 2407.10494.
    """
    tasks = make_tasks(model, spec, config, forgetting or config.objective.build())

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        losses = tasks.losses(state, batch)

        def loss_fn(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            retain, forget = losses.queries(params).mean(), losses.membership(params).mean()
            return retain + config.forget_weight * forget, (retain, forget)

        grads, (retain, forget) = jax.grad(loss_fn, has_aux=True)(state.variables.params)
        state = tasks.descend(key, state, batch, grads)
        return state, {"loss_remember": retain, "loss_forget": forget}

    invariants = Invariants(uses_validation=True)
    unlearner = Unlearner(
        tasks.prepare, tasks.sample, step, lambda state: state.variables, config.steps, invariants
    )
    return with_weight_noise(unlearner, config.weight_noise) if config.weight_noise else unlearner


METHOD = Method(
    name="mi_match",
    summary="fine-tuning plus matched membership losses: LTU without its meta scheme (a control)",
    reference="a control; losses of arXiv 2407.10494",
    build=mi_match,
    traced=MATCHING_NUMBERS,
    without_training=without_reference,
    config=MIMatchConfig(),
    space={
        "learning_rate": LogUniform(0.005, 0.05),
        "forget_weight": LogUniform(0.2, 3.2),
        "distill": Choice((0.5, 0.9)),
        "steps": Choice((100, 200, 300)),
    },
)
