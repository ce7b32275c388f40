"""Machine unlearning for JAX: ids in, an unlearned checkpoint and an audit out.

>>> import ltu_jax
>>> result = ltu_jax.unlearn("digits", ltu_jax.by_fraction(0.1))  # doctest: +SKIP
>>> result.metrics["unlearned"].avg_gap                            # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltu_jax.data import from_arrays, load
    from ltu_jax.data.request import by_class, by_fraction, by_group, by_ids
    from ltu_jax.errors import DivergedError, InputError
    from ltu_jax.runs.audit import audit_run
    from ltu_jax.runs.outputs import audit_outputs, write_outputs
    from ltu_jax.runs.pipeline import Result, resume, unlearn
    from ltu_jax.runs.sequential.unlearn_next import unlearn_next
    from ltu_jax.training.checkpoint import save_checkpoint
    from ltu_jax.training.supervised import Recipe
    from ltu_jax.types import Dataset, Examples, Model, Variables
    from ltu_jax.unlearners.ltu.config import LTUConfig

# Names are imported when first used, so that `import ltu_jax` costs next to nothing.
_HOMES = {
    "audit_outputs": "runs.outputs",
    "audit_run": "runs.audit",
    "write_outputs": "runs.outputs",
    "from_arrays": "data",
    "load": "data",
    "DivergedError": "errors",
    "InputError": "errors",
    "LTUConfig": "unlearners.ltu.config",
    "Result": "runs.pipeline",
    "resume": "runs.pipeline",
    "unlearn": "runs.pipeline",
    "by_class": "data.request",
    "by_fraction": "data.request",
    "by_group": "data.request",
    "by_ids": "data.request",
    "save_checkpoint": "training.checkpoint",
    "unlearn_next": "runs.sequential.unlearn_next",
    "Recipe": "training.supervised",
    "Dataset": "types",
    "Examples": "types",
    "Model": "types",
    "Variables": "types",
}

__all__ = [
    "Dataset",
    "DivergedError",
    "Examples",
    "InputError",
    "LTUConfig",
    "Model",
    "Recipe",
    "Result",
    "Variables",
    "audit_outputs",
    "audit_run",
    "by_class",
    "by_fraction",
    "by_group",
    "by_ids",
    "from_arrays",
    "load",
    "resume",
    "save_checkpoint",
    "unlearn",
    "unlearn_next",
    "write_outputs",
]


def __getattr__(name: str):
    """Import a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ltu_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ltu_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
