"""Tests of `ltu_jax.runs.sequential`."""
