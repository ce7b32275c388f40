"""Comparisons of methods, scenarios and seeds."""

from ltu_jax.runs.comparison.bench import Bench, Setting
from ltu_jax.runs.comparison.cache import cached_model
from ltu_jax.runs.comparison.compare import collect, run
from ltu_jax.runs.comparison.jobs import Job, Variant, make_missing, stages, variant
from ltu_jax.runs.comparison.options import Comparison

__all__ = [
    "Bench",
    "Comparison",
    "Job",
    "Setting",
    "Variant",
    "cached_model",
    "collect",
    "make_missing",
    "run",
    "stages",
    "variant",
]
