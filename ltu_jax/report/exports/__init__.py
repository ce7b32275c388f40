"""A report in formats of others: Hugging Face model card, CycloneDX ML-BOM, JSON Schema."""

from ltu_jax.report.exports.bom import bill_of_materials
from ltu_jax.report.exports.card import model_card
from ltu_jax.report.exports.schema import report_schema

__all__ = ["bill_of_materials", "model_card", "report_schema"]
