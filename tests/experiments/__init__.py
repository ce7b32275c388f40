"""Tests of the scripts that make the documentation's tables and pictures."""
