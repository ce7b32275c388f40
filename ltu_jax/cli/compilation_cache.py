"""The compilation cache of the command line: small models take longer to compile than to run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import jax

_log = logging.getLogger(__name__)

LEAST_SECONDS = 0.0  # a run has over a hundred programs that compile in a twentieth of a second


def prepare(folder: Path | None = None) -> None:
    """Silence Orbax's log, which repeats every exception, and keep compiled programs."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)
    keep_programs(folder)


def keep_programs(folder: Path | None = None) -> None:
    """Have JAX keep compiled programs for the next command, unless it has a cache folder already.

    Programs are found by their content, JAX's version and the type of device, and give the same
    bits. A folder that cannot be written costs only a warning.

    Args:
      folder: programs are kept in its subfolder `programs`; None takes `ltu_jax` in the user's
        cache folder (`$XDG_CACHE_HOME`, or `~/.cache`).
    """
    # JAX defines its options at run time.
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    folder = _user_folder() if folder is None else folder
    if folder is None or not _is_writable(folder / "programs"):
        _log.warning("compiled programs are not kept: the cache folder cannot be written to")
        return
    jax.config.update("jax_compilation_cache_dir", str((folder / "programs").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def _user_folder() -> Path | None:
    """Return the package's folder in the user's cache, or None for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if cache.startswith("~") else Path(cache) / "ltu_jax"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
