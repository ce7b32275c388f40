"""Tests of `ltu_jax.report.audit`."""
