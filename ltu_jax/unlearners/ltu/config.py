"""The knobs of LTU, checked when they are set."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from ltu_jax.errors import InputError, check_range
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.harmonize import Harmony, check_harmony
from ltu_jax.unlearners.ltu.meta import InnerStep
from ltu_jax.unlearners.ltu.objectives.calibrated import CalibrationConfig, check_calibration
from ltu_jax.unlearners.ltu.objectives.reference import StandIns, check_stand_ins
from ltu_jax.unlearners.ltu.sampling import QueryKind, check_query_sampling

_POSITIVE = (
    "steps",
    "learning_rate",
    "max_update_norm",
    "support_size",
    "audit_size",
    "query_size",
    "temperature",
    "anchor_size",
    "micro_batches",
)
_AT_LEAST_ZERO = (
    "momentum",
    "tune_weight",
    "membership_tune_weight",
    "forget_weight",
    "anchor",
    "shake",
)


@dataclass(frozen=True)
class LTUConfig:
    """The knobs of LTU.

    The defaults come from a search of ours on splits and seeds that no reported table uses
    (CIFAR-10, 10,000 training images, `cnn`, random 10 %; digits, random 10 % and one class).

    Attributes:
      steps: outer steps; the cost of a deletion does not depend on the size of any data set.
      learning_rate: peak of a cosine schedule for SGD with momentum.
      momentum: of SGD.
      max_update_norm: the direction is scaled down to this norm before the optimizer.
      support_size: forget examples under random labels; they only shape the temporary step.
      audit_size: forget examples that the MI models look at.
      query_sampling: how each of the N query sets is drawn; its length is N.
      query_size: examples in each query set.
      random_label_inner: inner step of the remembering branch. Its norm is clipped because the
        random-label gradient of a memorised model is large.
      membership_inner: inner step of the forgetting branch.
      tune_weight: weight of the random-label loss itself in the remembering gradient. At 0 random
        labels only shape the temporary step: they are a perturbation that queries must survive,
        not a target.
      membership_tune_weight: weight of the support MI models' loss in the forgetting gradient.
      membership: the K kinds of MI model.
      membership_support: how many of the K are the support of a step; drawn anew every step.
      membership_target: `"match"` the scores of held-out stand-ins, `"push"` to non-member, or
        `"calibrated"`: match what reference networks make one expect of each example, or
        `"joint"`: match the joint distribution of outputs, see `objectives.sliced_wasserstein`.
      stand_ins: whose scores are to be matched: those of `"heldout"` examples, those that a
        `"reference"` network gives the forget set, or, if it is of a kind of its own, as is to be
        `"tested"`, of the reference and else of held-out examples; see `objectives.reference`.
      calibration: of `"calibrated"`.
      directions: K of `"joint"`, in place of `membership`; half of them are the support of a step.
      forget_weight: factor on the forgetting gradient.
      distill: share of the query loss that is KL to the original model's outputs.
      temperature: of that KL.
      anchor: weight, in every query loss, of the KL to the original's outputs on validation
        examples of the classes that stay: what lies between the examples that a method may see is
        held in place by them. Their labels are not used, nor those on which a reference disagrees.
      anchor_size: how many of them a step looks at.
      shake: standard deviation of noise added to every weight matrix before the first step, as a
        share of the matrix's own. Whoever holds both networks finds the forget set by what moved
        (`audit.attacks.two_model`); noise moves all, and loses what the steps cannot bring back.
      harmonize: see `ltu_jax.unlearners.ltu.harmonize.harmonize`.
      remat: compute forward passes again where their insides are needed, instead of keeping them:
        less memory for more time, the same numbers.
      micro_batches: in how many pieces the network goes through each batch; implies `remat` of
        each. The losses are still those of the whole batch, so the numbers are the same.

    Raises:
      InputError: a knob is out of its range.
    """

    steps: int = 300
    learning_rate: float = 0.02
    momentum: float = 0.9
    max_update_norm: float = 3.0
    support_size: int = 32
    audit_size: int = 128
    query_sampling: tuple[QueryKind, ...] = ("uniform", "class", "hard")
    query_size: int = 64
    random_label_inner: InnerStep = InnerStep(lr=0.03, max_norm=1.0)
    membership_inner: InnerStep = InnerStep(lr=0.003, max_norm=1.0)
    tune_weight: float = 0.0
    membership_tune_weight: float = 1.0
    membership: tuple[mi.MembershipSpec, ...] = mi.DIVERSE
    membership_support: int = 3
    membership_target: mi.Target = "match"
    stand_ins: StandIns = "tested"
    calibration: CalibrationConfig = CalibrationConfig()
    directions: int = 64
    forget_weight: float = 0.4
    distill: float = 0.9
    temperature: float = 2.0
    anchor: float = 0.0
    anchor_size: int = 128
    shake: float = 0.0
    harmonize: Harmony = "two-way"
    remat: bool = False
    micro_batches: int = 1

    def membership_tasks(self) -> tuple[int, int]:
        """Return how many MI models a step has, and how many of them are its support."""
        if self.membership_target == "joint":
            return self.directions, self.directions // 2
        return len(self.membership), self.membership_support

    def optimizer(self) -> optax.GradientTransformation:
        """Return the optimizer of the outer steps."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.chain(
            optax.clip_by_global_norm(self.max_update_norm),
            optax.sgd(schedule, momentum=self.momentum),
        )

    def __post_init__(self):
        check_range(self, _POSITIVE, lambda value: value > 0, "a number above 0")
        check_range(self, _AT_LEAST_ZERO, lambda value: value >= 0, "a number of at least 0")
        check_range(self, ("directions",), lambda value: value > 1, "a number of at least 2")
        check_range(self, ("distill",), lambda value: 0 <= value <= 1, "a share from 0 to 1")
        for name in ("random_label_inner", "membership_inner"):
            inner = getattr(self, name)
            if inner.count < 1 or inner.order not in (1, 2) or not inner.max_norm > 0:
                raise InputError(
                    f"{name} is {inner}; give a count of at least 1, order 1 or 2 and a max_norm "
                    "above 0"
                )
        check_harmony(self.harmonize)
        check_query_sampling(self.query_sampling)
        mi.check_membership(self.membership, self.membership_target)
        check_stand_ins(self.stand_ins)
        check_calibration(self.calibration)
        # A single MI model is support and query at once.
        most = max(len(self.membership) - 1, 1)
        if not 1 <= self.membership_support <= most:
            raise InputError(
                f"membership_support is {self.membership_support}; give 1 to {most}, "
                "so that MI models are left for the queries"
            )
