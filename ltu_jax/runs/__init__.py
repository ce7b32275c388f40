"""One deletion, a comparison of many, or a sequence: planned, carried out, kept in a folder."""

from ltu_jax.runs.audit import audit_run
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_models, load_plan, load_spec
from ltu_jax.runs.outputs import audit_outputs, write_outputs
from ltu_jax.runs.pipeline import Result, resume, start, unlearn
from ltu_jax.runs.plan import Plan, make_plan, with_method
from ltu_jax.runs.sequential.unlearn_next import unlearn_next
from ltu_jax.runs.spec import InMemory, RunSpec

__all__ = [
    "InMemory",
    "Plan",
    "Result",
    "RunFolder",
    "RunSpec",
    "audit_outputs",
    "audit_run",
    "load_models",
    "load_plan",
    "load_spec",
    "make_plan",
    "resume",
    "start",
    "unlearn",
    "unlearn_next",
    "with_method",
    "write_outputs",
]
