"""Tests of `ltu_jax.audit`."""
