"""Tests of `ltu_jax.ltu`."""
