"""Tests of `ltu_jax.data`."""
