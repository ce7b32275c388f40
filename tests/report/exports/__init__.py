"""Tests of `ltu_jax.report.exports`."""
