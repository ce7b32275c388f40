"""Deletions at the literature's scale, for accelerators: `python -m experiments.recipes`."""
