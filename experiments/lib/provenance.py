"""Provenance of results: command, commit, versions."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ltu_jax.report.write import versions

ROOT = Path(__file__).resolve().parents[2]


def command_source(module: str) -> dict[str, Any]:
    """Return the provenance of what a module of `experiments`, with its arguments, makes now."""
    command = f"python -m experiments.{module}"
    return {"command": command, "git": git_state(), "versions": versions()}


def git_state() -> dict[str, Any]:
    """Return the commit of the code, and whether more than results and figures differs from it."""
    status = _git("status", "--porcelain", "--", ":!experiments/results", ":!docs/*.png")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": None if status is None else status != ""}


def _git(*args: str) -> str | None:
    """Return the output of a git command; `None` without a repository or git."""
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
