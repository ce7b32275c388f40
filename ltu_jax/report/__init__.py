"""A finished run as text, tables, figures and one HTML page."""

from ltu_jax.report.content import ReportContent
from ltu_jax.report.exports.schema import report_schema
from ltu_jax.report.read import read_content
from ltu_jax.report.result_table import result_table
from ltu_jax.report.sentences import given_accuracy
from ltu_jax.report.verdict import Verdict, verdict
from ltu_jax.report.write import as_json, versions, write_report

__all__ = [
    "ReportContent",
    "Verdict",
    "as_json",
    "given_accuracy",
    "read_content",
    "report_schema",
    "result_table",
    "verdict",
    "versions",
    "write_report",
]
