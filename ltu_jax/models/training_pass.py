"""A check that the training passes of a model train its BatchNorm statistics and its dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Jaxpr, Var

from ltu_jax.errors import few, warn
from ltu_jax.types import Model, Variables

_dropout_layers: ContextVar[list[str] | None] = ContextVar("dropout_layers", default=None)


def check_training_pass(model: Model, like: Variables, inputs: jax.ShapeDtypeStruct) -> None:
    """Warn if a training pass changes no statistics, or draws no dropout, that the model has.

    Args:
      model: traced in training mode, not run.
      like: shapes of its variables.
      inputs: `[B, ...]`.
    """

    def train(state, key, params, inputs):
        logits, after = model.apply(Variables(params, state), inputs, train=True, key=key)
        return jax.tree.leaves(after), logits

    key = jax.eval_shape(lambda: jax.random.key(0))
    with _collect_dropout() as layers:
        program = jax.make_jaxpr(train)(like.state, key, like.params, inputs).jaxpr
    paths = jax.tree_util.tree_leaves_with_path(like.state)
    unchanged = [
        jax.tree_util.keystr(path)
        for (path, leaf), before, after in zip(paths, program.invars, program.outvars, strict=False)
        if jnp.issubdtype(leaf.dtype, jnp.floating) and before is after
    ]
    floats = sum(jnp.issubdtype(leaf.dtype, jnp.floating) for _, leaf in paths)
    remedy = "if it should, let `__call__` take the flag `train`"
    if floats and len(unchanged) == floats:
        warn(
            f"a training pass of {model.name} leaves its state {few(unchanged)} as it is; {remedy}"
        )
    if layers and not _depends(program, program.outvars[-1], program.invars[len(paths)]):
        warn(f"a training pass of {model.name} draws no dropout, although it has layers; {remedy}")


def note_dropout(module: nnx.Module) -> None:
    """Tell `check_training_pass` that an NNX module which is about to run has dropout layers."""
    layers = _dropout_layers.get()
    if layers is not None:
        parts = (part for _, part in nnx.iter_modules(module))
        layers += ["Dropout" for part in parts if isinstance(part, nnx.Dropout) and part.rate > 0]


@contextmanager
def _collect_dropout() -> Iterator[list[str]]:
    """Yield a list that receives the dropout layers of all modules that run in the block."""
    layers: list[str] = []

    def intercept(call: Any, args: Any, options: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Dropout) and context.module.rate > 0:
            layers.append("Dropout")
        return call(*args, **options)

    token = _dropout_layers.set(layers)
    try:
        with nn.intercept_methods(intercept):
            yield layers
    finally:
        _dropout_layers.reset(token)


def _depends(program: Jaxpr, result: Any, argument: Var) -> bool:
    """Whether a result of a program is computed from an argument."""
    needed = {result}
    for equation in reversed(program.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(value for value in equation.invars if isinstance(value, Var))
    return argument in needed
