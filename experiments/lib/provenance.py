"""Which code a result was made by."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def git_state() -> dict[str, Any]:
    """Return the commit of the code, and whether more than results and figures differs from it."""
    status = _git("status", "--porcelain", "--", ":!experiments/results", ":!docs/*.png")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": None if status is None else status != ""}


def _git(*args: str) -> str | None:
    """Return what git says of this repository; `None` where there is no repository or no git."""
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
