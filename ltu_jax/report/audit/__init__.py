"""The audit of single examples as sentences, tables, figures and HTML."""

from ltu_jax.report.audit.sentences import summary, verdicts

__all__ = ["summary", "verdicts"]
