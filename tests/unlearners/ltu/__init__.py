"""Tests of `ltu_jax.unlearners.ltu`."""
