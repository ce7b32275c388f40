"""Tests of `ltu_jax.models`, and a pair of equal models for other tests."""
