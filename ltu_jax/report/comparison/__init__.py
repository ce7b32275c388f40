"""A comparison of methods as tables and figures."""

from ltu_jax.report.comparison.output import tables, write
from ltu_jax.report.comparison.table import Interval, Summary, interval, summarise

__all__ = ["Interval", "Summary", "interval", "summarise", "tables", "write"]
