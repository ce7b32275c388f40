"""Evidence of a deletion that others can check: statements, recomputed numbers, deleted files."""

from ltu_jax.runs.evidence.forget_files import Forgotten, forget_files
from ltu_jax.runs.evidence.recompute import Check, Verification, verify_run
from ltu_jax.runs.evidence.signing import make_key
from ltu_jax.runs.evidence.statement import sign
from ltu_jax.runs.evidence.verification import verify

__all__ = [
    "Check",
    "Forgotten",
    "Verification",
    "forget_files",
    "make_key",
    "sign",
    "verify",
    "verify_run",
]
