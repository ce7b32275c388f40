"""The library's forms against those that define them: the compiler's options and the harmonizer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from experiments.performance.steps import prepare_plain
from experiments.performance.subjects import Subject
from experiments.performance.timing import interleave, median, ratios
from ltu_jax.types import PyTree
from ltu_jax.unlearners.ltu import harmonize, project_conflicts


def compiler(subject: Subject, repeats: int) -> dict[str, float]:
    """Return what a plain gradient takes by XLA's own choice over that with the library's options.

    Both are the same where the library has no options for this backend.
    """
    chosen = prepare_plain(subject)
    default = prepare_plain(subject, jit=jax.jit)
    seconds = interleave({"library": chosen.once, "xla": default.once}, repeats)
    return {
        "xla_over_library": ratios(seconds, "xla", "library"),
        "library_seconds": median(seconds, "library"),
        "xla_seconds": median(seconds, "xla"),
    }


def harmonizer(size: int, repeats: int) -> dict[str, float]:
    """Return what two vmapped projections take over their closed form.

    Args:
      size: parameters of each of four tensors.
      repeats: see `interleave`.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    remember = [jax.random.normal(key, (size,)) for key in keys]
    forget = [0.5 * jax.random.normal(keys[0], (size,)) - gradient for gradient in remember]

    def projected(remember: PyTree, forget: PyTree) -> PyTree:
        rows = project_conflicts(jax.tree.map(lambda *pair: jnp.stack(pair), remember, forget))
        return jax.tree.map(lambda row: row.sum(0), rows)

    forms = {"closed": lambda r, f: harmonize(r, f)[0], "projections": projected}
    compiled = {
        name: jax.jit(form).lower(remember, forget).compile() for name, form in forms.items()
    }
    seconds = interleave(
        {
            name: lambda program=program: jax.block_until_ready(program(remember, forget))
            for name, program in compiled.items()
        },
        repeats,
    )
    return {
        "projections_over_closed": ratios(seconds, "projections", "closed"),
        "closed_seconds": median(seconds, "closed"),
        "parameters": 4 * size,
    }
