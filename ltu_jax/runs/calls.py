"""The Python call that repeats a run, for its report: plain values as they are, objects by name.

Ids and values of group columns stay out of reports, so that a request shows as `by_ids(ids)` or
`by_group("site", values)`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ltu_jax.data.request import Request

# They say where a process runs and what it shows, not what the run computes.
_LEFT_OUT = ("command", "quiet", "log", "out", "tensorboard", "wandb", "completed", "save_every")


def as_call(function: Callable, arguments: Mapping[str, Any]) -> str:
    """Return the call of a public function of `ltu_jax`, without arguments at their defaults.

    Args:
      function: such as `pipeline.unlearn`.
      arguments: all of its arguments by name.

    >>> def unlearn(data, *, model=None, epochs=None): ...
    >>> as_call(unlearn, {"data": "digits", "model": object(), "epochs": 3})
    'ltu_jax.unlearn("digits", model=model, epochs=3)'
    """
    shown: list[str] = []
    positional = False  # whether one is shown
    # From the last on: a default before a positional argument that is shown must be shown too.
    for name, parameter in reversed([*inspect.signature(function).parameters.items()]):
        value, keyword = arguments[name], parameter.kind is parameter.KEYWORD_ONLY
        needed = not keyword and positional
        if name in _LEFT_OUT or (_is_default(value, parameter.default) and not needed):
            continue
        text = as_text(value, name)
        shown.insert(0, f"{name}={text}" if keyword else text)
        positional = positional or not keyword
    return f"ltu_jax.{function.__name__}({', '.join(shown)})"


def as_text(value: Any, name: str) -> str:
    """Return an argument as Python source; `name` for an object that has no short source.

    >>> as_text((1, None), "sizes"), as_text(print, "model"), as_text([object()], "steps")
    ('(1, None)', 'print', 'steps')
    """
    if isinstance(value, Request):
        return _request(value)
    if isinstance(value, str | os.PathLike):
        return _quoted(os.fspath(value))
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, type) or inspect.isfunction(value) or inspect.isbuiltin(value):
        return name if value.__name__ == "<lambda>" else value.__name__
    if name == "forget":
        return "ids"
    if isinstance(value, tuple) and all(isinstance(one, _PLAIN) for one in value):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _changed(value, name)
    return name


_PLAIN = (str, bool, int, float, type(None))


def _changed(value: Any, name: str) -> str:
    """Return a dataclass by its fields that differ from their defaults, if all have sources."""
    try:
        default = type(value)()
    except TypeError:  # a field without default
        return name
    changed = [
        (field.name, getattr(value, field.name))
        for field in fields(value)
        if getattr(value, field.name) != getattr(default, field.name)
    ]
    if not type(value).__module__.startswith("ltu_jax."):
        return name
    shown = ", ".join(f"{key}={as_text(one, key)}" for key, one in changed)
    return f"ltu_jax.{type(value).__name__}({shown})"


def _request(request: Request) -> str:
    if request.type == "class":
        values: Iterable[Any] = request.value
        shown = ", ".join(_quoted(one) if isinstance(one, str) else repr(one) for one in values)
        return f"ltu_jax.by_class({shown if len(request.value) == 1 else f'[{shown}]'})"
    if request.type == "fraction":
        fraction, seed = request.value
        return f"ltu_jax.by_fraction({fraction}, seed={seed})"
    if request.type == "group":
        return f"ltu_jax.by_group({_quoted(str(request.column))}, values)"
    column = "" if request.column is None else f", column={_quoted(request.column)}"
    return f"ltu_jax.by_ids(ids{column})"


def _quoted(text: str) -> str:
    """Return a string literal in double quotes."""
    shown = repr(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, _PLAIN) and value == default)
