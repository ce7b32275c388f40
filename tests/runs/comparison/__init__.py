"""Tests of `ltu_jax.runs.comparison`."""
