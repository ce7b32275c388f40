"""The audit of any model's outputs: files of arrays in, measurements and attacks out."""

from ltu_jax.audit.outputs.audit import OutputsAudit, from_outputs
from ltu_jax.audit.outputs.files import open_arrays
from ltu_jax.audit.outputs.kinds import KINDS

__all__ = ["KINDS", "OutputsAudit", "from_outputs", "open_arrays"]
