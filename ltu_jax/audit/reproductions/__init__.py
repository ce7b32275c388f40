"""Numbers of other tools, reproduced for comparison; not used by the audit."""

from ltu_jax.audit.reproductions.challenge import epsilons, forget_score
from ltu_jax.audit.reproductions.ratio_bounds import ratio_bound, ratio_epsilons

__all__ = ["epsilons", "forget_score", "ratio_bound", "ratio_epsilons"]
