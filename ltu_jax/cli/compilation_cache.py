"""Compiled programs kept on disk: small networks take longer to compile than to run."""

from __future__ import annotations

import os
from pathlib import Path

import jax

LEAST_SECONDS = 0.2  # what compiles faster is not kept


def keep_programs(folder: Path | None = None) -> None:
    """Have JAX keep compiled programs for the next command, unless it has been told where to.

    They are found again by their content, JAX's version and the kind of device, and give the same
    bits. A folder that cannot be written costs a warning and nothing else.

    Args:
      folder: in which they go into `programs/`; None is `ltu_jax` in the user's cache folder
        (`$XDG_CACHE_HOME`, or `~/.cache`).
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltu_jax"
    jax.config.update("jax_compilation_cache_dir", str((folder / "programs").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
