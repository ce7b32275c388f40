"""The audit of single examples as sentences, tables, figures and HTML."""

from ltu_jax.report.audit.sentences import summary, verdicts
from ltu_jax.report.audit.tables import grids, tables

__all__ = ["grids", "summary", "tables", "verdicts"]
