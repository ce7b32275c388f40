"""Execute the notebooks and write their outputs into them, so that they can be read where they lie.

Run as `python -m experiments.lib.notebooks [NAME ...]`. Each runs in a folder of its own with the
default options, as a reader would run it. Pictures are reduced to 64 colours.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

from experiments.lib.provenance import ROOT

COLOURS = 64
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


def execute(path: Path) -> None:
    """Execute one notebook and write it, without times and terminal colours."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=None, kernel_name="python3", resources=resources, record_timing=False
        ).execute()
    notebook = nbformat.from_dict(_without(notebook, f"{folder}/"))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = reduce(output["data"]["image/png"])
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)


def _without(value: Any, text: str) -> Any:
    """Return nested JSON values; strings lose a text, such as the folder, and colours."""
    if isinstance(value, dict):
        return {key: _without(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, text) for inner in value]
    return COLOUR.sub("", value.replace(text, "")) if isinstance(value, str) else value


def reduce(picture: str) -> str:
    """Return a base64 PNG with few colours."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        small = io.BytesIO()
        image.convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def main(names: list[str]) -> None:
    """Execute the notebooks of these names; all if none is given."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not names or path.stem in names:
            execute(path)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
