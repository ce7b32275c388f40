"""All methods by name, behind the one interface `ltu_jax.types.Unlearner`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ltu_jax.errors import InputError
from ltu_jax.paths import local
from ltu_jax.plugins import import_object
from ltu_jax.unlearners import (
    bad_teacher,
    boundary_expand,
    boundary_shrink,
    cf_k,
    ct,
    eu_k,
    finetune,
    fisher_forgetting,
    gradient_ascent,
    influence,
    l1_sparse,
    msg,
    neggrad_plus,
    negmerge,
    nothing,
    random_label,
    retrain_accessible,
    salun,
    scrub,
    sfr_on,
    sfr_on_topk,
    ssd,
    unsir,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.ltu import control as mi_match
from ltu_jax.unlearners.ltu import presets as ltu

__all__ = ["METHODS", "Choice", "LogUniform", "Method", "configure", "find", "read_config"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        nothing.METHOD,
        retrain_accessible.METHOD,
        finetune.METHOD,
        cf_k.METHOD,
        eu_k.METHOD,
        gradient_ascent.METHOD,
        neggrad_plus.METHOD,
        random_label.METHOD,
        salun.METHOD,
        boundary_shrink.METHOD,
        boundary_expand.METHOD,
        l1_sparse.METHOD,
        mi_match.METHOD,
        ssd.METHOD,
        ssd.LABEL_FREE,
        influence.METHOD,
        fisher_forgetting.METHOD,
        scrub.METHOD,
        bad_teacher.METHOD,
        sfr_on.METHOD,
        sfr_on_topk.METHOD,
        negmerge.METHOD,
        unsir.METHOD,
        msg.METHOD,
        ct.METHOD,
        ltu.METHOD,
        ltu.FIRST_ORDER,
        ltu.PAPER,
        ltu.CALIBRATED,
        ltu.JOINT,
    )
}


def find(method: str | Method, *, argument: str = "method") -> Method:
    """Return the method of that name, of `package.module:OBJECT`, or the given one.

    Args:
      method: a name or a method.
      argument: name of the argument, for errors.

    Raises:
      InputError: there is no such method, or its name cannot be part of a file name.

    Example:
      >>> find("finetune").summary
      'keep training on the accessible retain set'
    """
    if isinstance(method, str) and ":" in method:
        method = import_object(method, argument, lambda x: isinstance(x, Method), "Method")
    if isinstance(method, Method):
        return _with_plain_name(method, argument)
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            argument, f"there is no method {method}", f"choose one of {', '.join(METHODS)}"
        )
    return METHODS[method]


def _with_plain_name(method: Method, argument: str) -> Method:
    """Return `method` if its name can be part of a file name and is not a reference model's."""
    taken = method.name in ("original", "retrain", "retrain_2")
    if taken or not re.fullmatch(r"\w[\w.+-]{0,59}", method.name):
        raise InputError(
            argument,
            f"{method.name!r} cannot be the name of a method",
            "give a Method whose name has up to 60 letters, digits and _ . + -, and is not that "
            "of a reference model",
        )
    return method


def configure(method: Method, values: Mapping[str, Any]) -> Any:
    """Return the method's default options with some of them set to `values`.

    Raises:
      InputError: the method has no option of that name, or the value is out of its range.
    """
    return _with_values(method.config, values, "")


def _with_values(default: Any, values: Mapping[str, Any], path: str) -> Any:
    """Return a dataclass or named tuple with some fields set, those of nested ones included."""
    names = default._fields if hasattr(default, "_fields") else [f.name for f in fields(default)]
    for name in values:
        if name not in names:
            raise InputError(
                "config", f"has no option {path + name!r}", f"the options are {', '.join(names)}"
            )
    changes = {name: _like(getattr(default, name), v, path + name) for name, v in values.items()}
    if hasattr(default, "_fields"):
        return default._replace(**changes)
    return replace(default, **changes)


def _like(default: Any, value: Any, path: str) -> Any:
    """Return `value` in the types of `default`, which it lost in JSON."""
    if isinstance(value, Mapping) and (is_dataclass(default) or hasattr(default, "_fields")):
        return _with_values(default, value, f"{path}.")
    if is_dataclass(default) and type(value) is type(default):
        return value
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if not hasattr(default, "_fields"):
            return tuple(_like(default[0], one, path) if default else one for one in value)
        if len(value) == len(default):
            return type(default)(*(_like(*both, path) for both in zip(default, value, strict=True)))
    elif not isinstance(default, tuple) and _same_type(default, value):
        return value
    raise InputError("config", f"option {path!r} is {value!r}", f"give a value such as {default!r}")


def _same_type(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(value, int) and abs(value) >= 2**31:  # steps and sizes are 32-bit integers
        return False
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def read_config(method: str | Method, path: str | os.PathLike) -> Any:
    """Return a method's options from a JSON file.

    Args:
      method: as for `find`.
      path: a file with an object of options, or the `tuning.json` of a run.

    Raises:
      InputError: the file has no such content, or its options do not fit the method.
    """
    method, path = find(method), local("config", path)
    remedy = 'give a JSON file of options, such as {"learning_rate": 0.01}'
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once_each)
        json.dumps(values, allow_nan=False)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("config", f"cannot read {path} ({error})", remedy) from error
    if isinstance(values, dict) and {"method", "trials", "options"} <= values.keys():
        if values["method"] != method.name:
            problem = f"{path} holds options of {values['method']}, not of {method.name}"
            raise InputError("config", problem, "give its `method`, or another file")
        values = values["options"]
    if not isinstance(values, dict):
        raise InputError("config", f"{path} holds a {type(values).__name__}", remedy)
    return configure(method, values)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object without duplicate names, of which JSON would keep the last."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name!r} twice")
    return dict(pairs)
