"""The options of LTU and of its control."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import optax

from ltu_jax.errors import InputError
from ltu_jax.training.optimizers import Rate, torch_sgd
from ltu_jax.unlearners.base import (
    Config,
    Constraint,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Share,
)
from ltu_jax.unlearners.ltu.harmonization import HarmonisationMode
from ltu_jax.unlearners.ltu.heldout import HeldoutDistillation
from ltu_jax.unlearners.ltu.membership import DIVERSE, FEATURES, MembershipSpec
from ltu_jax.unlearners.ltu.memory import Memory
from ltu_jax.unlearners.ltu.meta import InnerStep
from ltu_jax.unlearners.ltu.objectives.base import Forgetting
from ltu_jax.unlearners.ltu.objectives.calibration import CalibrationConfig, calibrated
from ltu_jax.unlearners.ltu.objectives.matching import match_membership
from ltu_jax.unlearners.ltu.objectives.projections import sliced_wasserstein
from ltu_jax.unlearners.ltu.objectives.reference import TargetSource
from ltu_jax.unlearners.ltu.sampling import QuerySampling

_SAMPLINGS = get_args(QuerySampling)
Specs = Annotated[
    tuple[MembershipSpec, ...],
    Constraint(
        lambda specs: bool(specs) and all(spec.feature in FEATURES for spec in specs),
        f"one or more membership models with features of {', '.join(FEATURES)}",
    ),
]
QuerySamplings = Annotated[
    tuple[QuerySampling, ...],
    Constraint(
        lambda samplings: bool(samplings) and set(samplings) <= set(_SAMPLINGS),
        f"one or more of {', '.join(_SAMPLINGS)}",
    ),
]
Inner = Annotated[
    InnerStep,
    Constraint(
        lambda inner: (
            inner.count >= 1 and inner.order in (1, 2) and inner.max_norm > 0 and inner.layers >= 0
        ),
        "a count of at least 1, order 1 or 2, a max_norm above 0 and layers of at least 0",
    ),
]


@dataclass(frozen=True)
class Objective(Config):
    """The objective of the forgetting branch, by name.

    Attributes:
      name: `"match"`: bring membership scores to those of the surrogate targets. `"push"`: lower
        them. `"calibrated"`: match them with per-example difficulty calibration.
        `"sliced_wasserstein"`: match the output distribution along random projections.
      target_source: source of the surrogate targets, see `objectives.reference`: `"heldout"`
        examples, a `"reference"` model, or `"auto"`: the model where a class is forgotten as a
        whole or a two-sample test detects a distinct subpopulation.
      specs: the K membership models; unused by `"sliced_wasserstein"`.
      support: number of models that are the support of a step, drawn at random in every step.
      calibration: options of `"calibrated"`.
      projections: number K of projections of `"sliced_wasserstein"`; half of them are the support.
    """

    name: Literal["match", "push", "calibrated", "sliced_wasserstein"] = "match"
    target_source: TargetSource = "auto"
    specs: Specs = DIVERSE
    support: PositiveInt = 3
    calibration: CalibrationConfig = CalibrationConfig()
    projections: Annotated[int, Constraint(lambda x: x > 1, "a number of at least 2")] = 64

    def build(self) -> Forgetting:
        """Return the objective itself."""
        if self.name == "sliced_wasserstein":
            return sliced_wasserstein(self.projections)
        if self.name == "calibrated":
            return calibrated(self.specs, self.support, self.calibration)
        return match_membership(self.specs, self.support, self.name)


@dataclass(frozen=True)
class MatchingConfig(Config):
    """Options that LTU shares with its control.

    Attributes:
      steps: outer steps. The cost of a step does not depend on the size of the data set.
      learning_rate: peak of a cosine schedule for SGD with momentum.
      momentum: SGD momentum.
      max_update_norm: bound on the norm of the direction, which is scaled down to it.
      audit_size: forget examples in the batch of the forgetting objective.
      query_size: accessible retain examples in each query set.
      forget_weight: weight of the forgetting gradient.
      distill: share of the query loss that is KL divergence from the original model's outputs.
      temperature: temperature of that divergence.
      objective: see `Objective`.
      heldout_distillation: see `HeldoutDistillation`.
      weight_noise: standard deviation of Gaussian noise added to each weight matrix before the
        first step, relative to that matrix's. Weakens two-model attacks; costs retain accuracy.
      memory: see `Memory`.
    """

    steps: PositiveInt = 300
    learning_rate: PositiveFloat = 0.02
    momentum: NonNegativeFloat = 0.9
    max_update_norm: PositiveFloat = 3.0
    audit_size: PositiveInt = 128
    query_size: PositiveInt = 64
    forget_weight: NonNegativeFloat = 0.4
    distill: Share = 0.9
    temperature: PositiveFloat = 2.0
    objective: Objective = Objective()
    heldout_distillation: HeldoutDistillation = HeldoutDistillation()
    weight_noise: NonNegativeFloat = 0.0
    memory: Memory = Memory()

    def optimizer(self) -> optax.GradientTransformation:
        """Return the optimizer of the outer steps."""
        rate = Rate(self.learning_rate, steps=self.steps)
        return torch_sgd(rate, self.momentum, max_norm=self.max_update_norm)


# The numbers of `MatchingConfig` that no code branches on, see `Method.traced`.
MATCHING_NUMBERS = (
    "steps",
    "learning_rate",
    "momentum",
    "max_update_norm",
    "forget_weight",
    "distill",
    "temperature",
    "heldout_distillation.weight",
)


@dataclass(frozen=True)
class LTUConfig(MatchingConfig):
    """Options of LTU; those that the control has as well are in `MatchingConfig`.

    The defaults come from a search on splits and seeds that no reported table uses (CIFAR-10,
    10,000 training images, `cnn`, random 10 %; digits, random 10 % and one class).

    Attributes:
      support_size: forget examples under random labels; they only shape the temporary step.
      query_sampling: sampling strategy of each of the N query sets.
      random_label_inner: inner step of the remembering branch. Its norm is clipped because the
        random-label gradient of a memorised model is large. At `tune_weight` 0 random labels are a
        perturbation, not a target.
      membership_inner: inner step of the forgetting branch.
      harmonize: see `harmonize`.
    """

    support_size: PositiveInt = 32
    query_sampling: QuerySamplings = ("uniform", "class", "hard")
    random_label_inner: Inner = InnerStep(lr=0.03, max_norm=1.0, tune_weight=0.0)
    membership_inner: Inner = InnerStep(lr=0.003, max_norm=1.0)
    harmonize: HarmonisationMode = "two-way"

    def __post_init__(self):
        super().__post_init__()
        # A single model is support and query at once.
        most = max(len(self.objective.specs) - 1, 1)
        if self.objective.support > most:
            raise InputError("support", f"is {self.objective.support}", f"give 1 to {most}")


def without_reference(config: MatchingConfig) -> MatchingConfig:
    """Return the options with surrogate targets that need no reference model."""
    return replace(config, objective=replace(config.objective, target_source="heldout"))
