"""Tests of `ltu_jax.runs.evidence`."""
