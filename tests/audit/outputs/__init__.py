"""Tests of the audit of outputs."""
