"""Tests of `ltu_jax.models`, and a pair of networks for tests elsewhere."""
