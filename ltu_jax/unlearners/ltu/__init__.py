"""Learning to Unlearn (arXiv 2407.10494): two meta-gradients and their harmonisation."""

from ltu_jax.unlearners.ltu.algorithm import ltu
from ltu_jax.unlearners.ltu.config import LTUConfig, Objective
from ltu_jax.unlearners.ltu.control import MIMatchConfig, mi_match
from ltu_jax.unlearners.ltu.diagnostics import diagnose
from ltu_jax.unlearners.ltu.harmonization import (
    Conflict,
    HarmonisationMode,
    harmonize,
    project_conflicts,
)
from ltu_jax.unlearners.ltu.heldout import HeldoutDistillation
from ltu_jax.unlearners.ltu.membership import DIVERSE, MembershipSpec
from ltu_jax.unlearners.ltu.memory import Memory
from ltu_jax.unlearners.ltu.meta import (
    InnerStep,
    MetaInfo,
    meta_gradient,
    meta_objective,
    partial_meta_gradient,
)
from ltu_jax.unlearners.ltu.objectives.base import Context, Forgetting, make_context
from ltu_jax.unlearners.ltu.objectives.calibration import CalibrationConfig, calibrated
from ltu_jax.unlearners.ltu.objectives.matching import match_membership
from ltu_jax.unlearners.ltu.objectives.projections import sliced_wasserstein
from ltu_jax.unlearners.ltu.weight_noise import with_weight_noise

__all__ = [
    "DIVERSE",
    "CalibrationConfig",
    "Conflict",
    "Context",
    "Forgetting",
    "HarmonisationMode",
    "HeldoutDistillation",
    "InnerStep",
    "LTUConfig",
    "MIMatchConfig",
    "MembershipSpec",
    "Memory",
    "MetaInfo",
    "Objective",
    "calibrated",
    "diagnose",
    "harmonize",
    "ltu",
    "make_context",
    "match_membership",
    "meta_gradient",
    "meta_objective",
    "mi_match",
    "partial_meta_gradient",
    "project_conflicts",
    "sliced_wasserstein",
    "with_weight_noise",
]
