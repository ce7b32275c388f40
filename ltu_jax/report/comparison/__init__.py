"""A comparison of methods as tables and figures."""

from ltu_jax.report.comparison.table import Interval, Summary, interval, summarise
from ltu_jax.report.comparison.write import tables, write

__all__ = ["Interval", "Summary", "interval", "summarise", "tables", "write"]
