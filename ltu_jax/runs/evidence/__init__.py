"""Evidence of a deletion that others can check: recomputed numbers."""

from ltu_jax.runs.evidence.recompute import Check, Verification, verify_run

__all__ = ["Check", "Verification", "verify_run"]
