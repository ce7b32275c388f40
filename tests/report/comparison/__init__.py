"""Tests of `ltu_jax.report.comparison`."""
