"""The control for LTU: fine-tuning plus matched membership losses, and nothing else of it.

Same MI models, same targets, same batches, same optimizer; no inner step, no second gradient, no
harmonisation. What LTU gains over this row is what the meta scheme is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from ltu_jax.types import (
    DataSpec,
    Info,
    Invariants,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.algorithm import refresh_statistics
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.ltu.objectives.calibrated import CalibrationConfig
from ltu_jax.unlearners.ltu.objectives.reference import StandIns
from ltu_jax.unlearners.ltu.tasks import (
    LTUBatch,
    LTUState,
    batch_sizes,
    draw_batch,
    prepare_state,
    tasks,
)


@dataclass(frozen=True)
class MIMatchConfig:
    """Options of the control; they mean and default to what they do in `LTUConfig`.

    Attributes:
      steps: SGD steps.
      learning_rate: peak of a cosine schedule for SGD with momentum.
      momentum: of SGD.
      max_update_norm: the gradient is scaled down to this norm before the optimizer.
      audit_size: forget examples that the MI models look at.
      query_size: accessible retain examples of a step: as many as LTU's three query sets hold.
      membership: the kinds of MI model.
      membership_target: as LTU's.
      stand_ins: as LTU's.
      calibration: of the target `"calibrated"`.
      directions: of the target `"joint"`.
      forget_weight: factor on the mean loss of the MI models. LTU adds support and query MI losses
        at 0.4 each, so this is twice as large.
      distill: share of the retain loss that is KL to the original model's outputs.
      temperature: of that KL.
      anchor: as LTU's; so for the next.
      anchor_size: how many validation examples hold held-out outputs in place.

    Raises:
      InputError: a value is out of its range.
    """

    steps: int = 300
    learning_rate: float = 0.02
    momentum: float = 0.9
    max_update_norm: float = 3.0
    audit_size: int = 128
    query_size: int = 192
    membership: tuple[mi.MembershipSpec, ...] = mi.DIVERSE
    membership_target: mi.Target = "match"
    stand_ins: StandIns = "tested"
    calibration: CalibrationConfig = CalibrationConfig()
    directions: int = 64
    forget_weight: float = 0.8
    distill: float = 0.9
    temperature: float = 2.0
    anchor: float = 0.0
    anchor_size: int = 128

    def __post_init__(self):
        self.as_ltu()  # its checks are these options' too

    def as_ltu(self) -> LTUConfig:
        """Return these options as LTU's, for the parts that are shared."""
        return LTUConfig(
            steps=self.steps,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            max_update_norm=self.max_update_norm,
            audit_size=self.audit_size,
            query_sampling=("uniform",),
            query_size=self.query_size,
            membership=self.membership,
            membership_support=1,
            membership_target=self.membership_target,
            stand_ins=self.stand_ins,
            calibration=self.calibration,
            forget_weight=self.forget_weight,
            distill=self.distill,
            temperature=self.temperature,
            directions=self.directions,
            anchor=self.anchor,
            anchor_size=self.anchor_size,
        )


def mi_match(model: Model, spec: DataSpec, config: MIMatchConfig = MIMatchConfig()) -> Unlearner:
    """Build the control.

    BatchNorm as in LTU: passes normalise with the stored statistics, which are updated once per
    step from the retain examples. Dropout and augmentation are off.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `MIMatchConfig`.

    Returns:
      The unlearner.

    Raises:
      InputError: the accessible retain set is too small.
    """
    shared = config.as_ltu()
    sizes = batch_sizes(shared, spec)
    tx = shared.optimizer()

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> LTUState:
        opt_state = tx.init(variables.params)
        return prepare_state(key, model, variables, opt_state, data, spec.num_classes, shared)

    def sample(key: Key, t: jax.Array, state: LTUState, data: UnlearnData) -> LTUBatch:
        del t
        return draw_batch(key, state, data, sizes, spec.num_classes, shared)

    def step(key: Key, state: LTUState, batch: LTUBatch) -> tuple[LTUState, Info]:
        params = state.variables.params
        task = tasks(model, state, batch, shared)

        def loss_fn(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            retain, forget = task.queries(params).mean(), task.membership(params).mean()
            return retain + config.forget_weight * forget, (retain, forget)

        grads, (retain, forget) = jax.grad(loss_fn, has_aux=True)(params)
        updates, opt_state = tx.update(grads, state.opt_state, params)
        variables = state.variables._replace(params=optax.apply_updates(params, updates))
        variables = refresh_statistics(model, key, variables, batch.queries.inputs)
        info = {"loss_remember": retain, "loss_forget": forget}
        return state._replace(variables=variables, opt_state=opt_state), info

    invariants = Invariants(uses_validation=True)
    return Unlearner(prepare, sample, step, lambda state: state.variables, config.steps, invariants)


METHOD = Method(
    name="mi_match",
    summary="fine-tuning plus matched membership losses: LTU without its meta scheme (a control)",
    reference="a control; losses of arXiv 2407.10494",
    build=mi_match,
    config=MIMatchConfig(),
    space={
        "learning_rate": LogUniform(0.005, 0.05),
        "forget_weight": LogUniform(0.2, 3.2),
        "distill": Choice((0.5, 0.9)),
        "steps": Choice((100, 200, 300)),
    },
)
