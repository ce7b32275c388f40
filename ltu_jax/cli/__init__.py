"""The `ltu` command: arguments in, tables and exit codes out."""

from ltu_jax.cli.main import main

__all__ = ["main"]
