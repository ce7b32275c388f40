"""`ltu export`: a report in formats of others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Export:
    """Write the report of a run, or of an audit of outputs, in a format of others.

    - card: model card of Hugging Face, with evaluation results (model_card.md).
    - bom: ML-BOM of CycloneDX 1.6, JSON (bom.cdx.json).
    - schema: JSON Schema of report.json (report.schema.json).

    For a PDF, print report.html from a browser: it has a style for paper.

      ltu export RUN --to card
      ltu export RUN --to bom --out bom.cdx.json
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder with a report."""
    to: Literal["card", "bom", "schema"]
    """The format."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; by default in the folder of the report."""


def export(options: Export) -> None:
    """Run `ltu export` and say where the file is."""
    from ltu_jax.runs.exports import export_report

    print(f"Written: {export_report(options.run, options.to, out=options.out)}")
