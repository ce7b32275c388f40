"""All methods by name, behind the one interface `ltu_jax.types.Unlearner`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ltu_jax.errors import InputError
from ltu_jax.importing import import_object
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
    ltu,
    mi_match,
    msg,
    neggrad_plus,
    negmerge,
    nothing,
    random_label,
    retrain,
    salun,
    scrub,
    sfr_on,
    sfr_on_topk,
    ssd,
    unsir,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method

__all__ = ["METHODS", "Choice", "LogUniform", "Method", "configure", "find", "read_config"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        nothing.METHOD,
        retrain.METHOD,
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
    )
}


def find(method: str | Method) -> Method:
    """Return the method of that name, of `package.module:OBJECT`, or the one that is given.

    Raises:
      InputError: there is none.
    """
    if isinstance(method, Method):
        return method
    if ":" in method:
        return import_object(method, "--method", lambda x: isinstance(x, Method), "Method")
    if method not in METHODS:
        raise InputError(f"--method {method}: no such method; choose one of {', '.join(METHODS)}")
    return METHODS[method]


def configure(method: Method, values: Mapping[str, Any]) -> Any:
    """Return the method's default options with some of them set to `values`.

    Raises:
      InputError: the method has no option of that name, or the value is out of its range.
    """
    defaults = {field.name: getattr(method.config, field.name) for field in fields(method.config)}
    for name, value in values.items():
        if name not in defaults:
            raise InputError(
                f"--config {name}: {method.name} has no such option; it has {', '.join(defaults)}"
            )
        if not _same_kind(defaults[name], value):
            raise InputError(
                f"--config {name}: is {value!r}; give a value such as {defaults[name]!r}"
            )
    return replace(method.config, **{k: _like(defaults[k], v) for k, v in values.items()})


def _like(default: Any, value: Any) -> Any:
    """Return `value` with the tuples that it lost in JSON, named ones as in `default`."""
    if not isinstance(value, list | tuple):
        return value
    if hasattr(default, "_fields"):
        return type(default)(*value)
    return tuple(_like(default[0], one) if default else one for one in value)


def _same_kind(default: Any, value: Any) -> bool:
    if hasattr(default, "_fields"):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(default)
            and all(map(_same_kind, default, value))
        )
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return all(_same_kind(default[0], one) for one in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def read_config(method: str | Method, path: Path) -> Any:
    """Return a method's options from a JSON file.

    Args:
      method: as for `find`.
      path: an object of options to their values, or the `tuning.json` of a run.

    Raises:
      InputError: the file is no such thing, or its options do not fit the method.
    """
    method = find(method)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config {path}: {error}; give a JSON file of options") from error
    if isinstance(values, dict) and values.get("method") == method.name and "trials" in values:
        values = values["options"]
    if not isinstance(values, dict):
        raise InputError(f'--config {path}: holds no object such as {{"learning_rate": 0.01}}')
    return configure(method, values)
