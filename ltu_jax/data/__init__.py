"""Data: where the examples come from, and what is done to them on the device."""

from ltu_jax.data.arrays import from_arrays
from ltu_jax.data.sources import load

__all__ = ["from_arrays", "load"]
