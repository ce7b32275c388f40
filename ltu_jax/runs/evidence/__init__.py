"""Evidence of a deletion that others can check: signed statements and recomputed numbers."""

from ltu_jax.runs.evidence.recompute import Check, Verification, verify_run
from ltu_jax.runs.evidence.signing import make_key
from ltu_jax.runs.evidence.statement import sign
from ltu_jax.runs.evidence.verification import verify

__all__ = ["Check", "Verification", "make_key", "sign", "verify", "verify_run"]
