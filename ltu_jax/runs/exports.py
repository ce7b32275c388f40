"""The report of a run, written in a format of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ltu_jax import files, paths
from ltu_jax.errors import InputError
from ltu_jax.report.content import ReportContent
from ltu_jax.report.exports import bill_of_materials, model_card, report_schema
from ltu_jax.report.read import read_report
from ltu_jax.runs.folder import RunFolder, check_writable

Format = Literal["card", "bom", "schema"]
FORMATS: dict[str, tuple[str, Callable[[ReportContent], str]]] = {
    "card": ("model_card.md", model_card),
    "bom": ("bom.cdx.json", bill_of_materials),
    "schema": ("report.schema.json", lambda content: files.json_text(report_schema())),
}


def export_report(
    run: str | os.PathLike, to: Format, *, out: str | os.PathLike | None = None
) -> Path:
    """Write a report as a model card, an ML-BOM, or its JSON Schema, and return the path.

    Args:
      run: folder with a report: of a run, or of an audit of outputs.
      to: `card` (Hugging Face), `bom` (CycloneDX 1.6) or `schema`.
      out: the file; None names it in the folder of the report.

    Raises:
      InputError: there is no report, the file cannot be written, or a package is missing.
    """
    if to not in FORMATS:
        raise InputError("to", f"is {to!r}", f"choose among {', '.join(FORMATS)}")
    folder = RunFolder(run)
    name, render = FORMATS[to]
    path = folder.path / name if out is None else paths.local("out", out)
    if path.is_dir():
        raise InputError("out", f"is {path}, a folder", "name a file")
    content = read_report(folder.report)
    text = render(content)
    check_writable("out", path.parent)
    files.write(path, text.encode())
    return path
