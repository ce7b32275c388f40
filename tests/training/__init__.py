"""Tests of `ltu_jax.training`."""
