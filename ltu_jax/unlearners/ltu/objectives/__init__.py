"""What the forgetting branch of LTU matches."""

from ltu_jax.unlearners.ltu.objectives.base import Context, Forgetting, make_context
from ltu_jax.unlearners.ltu.objectives.calibration import CalibrationConfig, calibrated
from ltu_jax.unlearners.ltu.objectives.matching import match_membership
from ltu_jax.unlearners.ltu.objectives.projections import sliced_wasserstein

__all__ = [
    "CalibrationConfig",
    "Context",
    "Forgetting",
    "calibrated",
    "make_context",
    "match_membership",
    "sliced_wasserstein",
]
