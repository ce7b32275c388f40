"""A trained network that the user has in memory, whatever made it, as `Variables`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltu_jax.errors import InputError, check_path
from ltu_jax.models import nnx_variables
from ltu_jax.training.checkpoint import export, first_difference
from ltu_jax.types import PyTree, Variables


def as_variables(given: Any, like: Variables) -> Variables:
    """Return a trained network's arrays in the form of `like`, checked and copied.

    Args:
      given: an NNX module; Linen variables `{"params": ..., "batch_stats": ...}`; `Variables`; or,
        for networks without model state, just the pytree of parameters.
      like: variables of the network that is expected, for structure, shapes and types.

    Raises:
      InputError: it is a network of another architecture, or an array holds NaN or infinity.
    """
    found = _parts(given, like)
    difference = first_difference(found._asdict(), like._asdict())
    if difference:
        raise InputError(
            f"params: are not those of the model: {difference}; give the model and data that they "
            "were trained with, and of a network with BatchNorm the statistics too"
        )
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in _leaves(found)}
    return jax.tree_util.tree_map_with_path(
        lambda path, wanted: _array(jax.tree_util.keystr(path), arrays, wanted), like
    )


def save_checkpoint(folder: str | os.PathLike, params: Any) -> None:
    """Write a trained network for `--checkpoint` and `checkpoint=`.

    Args:
      folder: must not exist yet.
      params: as for `ltu_jax.unlearn`: an NNX module, Linen variables, `Variables`, or the pytree
        of parameters of a network without model state.

    Raises:
      InputError: the folder exists.
      OSError: the disk refused it.
    """
    check_path("folder", folder)
    if Path(folder).exists():
        raise InputError(f"folder {folder}: exists already; name a new one")
    export(Path(folder), jax.tree.map(jnp.asarray, _parts(given=params, like=None)))


def _parts(given: Any, like: Variables | None) -> Variables:
    """Return parameters and model state apart from each other."""
    if isinstance(given, Variables):
        return given
    if isinstance(given, nnx.Module):
        return nnx_variables(given)
    given = flax.core.unfreeze(given) if isinstance(given, flax.core.FrozenDict) else given
    is_bare = like is not None and first_difference(given, like.params) is None
    if isinstance(given, Mapping) and "params" in given and not is_bare:
        return Variables(given["params"], {name: given[name] for name in given if name != "params"})
    return Variables(given, {})


def _array(name: str, arrays: Mapping[str, Any], wanted: jax.ShapeDtypeStruct) -> jax.Array:
    """Return one of the arrays as a copy of the wanted type, on no device in particular."""
    array = np.asarray(arrays[name])
    floats = (jnp.issubdtype(dtype, jnp.floating) for dtype in (array.dtype, wanted.dtype))
    if array.dtype != wanted.dtype and not all(floats):
        raise InputError(f"params: {name} is {array.dtype}; the model has {wanted.dtype}")
    array = jnp.array(array, wanted.dtype)
    if jnp.issubdtype(wanted.dtype, jnp.inexact) and not jnp.isfinite(array).all():
        raise InputError(f"params: {name} holds NaN or infinity; give a network that is sound")
    return array


def _leaves(tree: PyTree) -> list:
    return jax.tree_util.tree_flatten_with_path(tree)[0]
