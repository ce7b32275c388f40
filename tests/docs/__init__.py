"""Tests of documentation, examples and notebooks."""
