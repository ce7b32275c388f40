"""Tests of the reproductions of other tools."""
