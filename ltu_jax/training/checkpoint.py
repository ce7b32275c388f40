"""Checkpoints: exported models, parameters that the user passes, and checksummed loop states."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltu_jax import files, paths
from ltu_jax.errors import DamagedError, InputError
from ltu_jax.models import nnx_state, nnx_variables
from ltu_jax.training import hosts, orbax_paths
from ltu_jax.training.find_variables import find_variables
from ltu_jax.training.foreign_checkpoints import bucket_error, read_checkpoint
from ltu_jax.types import PyTree, Variables

ABOUT = "about.json"
OVERHEAD_BYTES = 1 << 17  # size of a checkpoint in addition to its arrays


def export(folder: Path, variables: Variables) -> None:
    """Write `variables` to a new folder, which appears whole or not at all.

    All processes call this together.

    Args:
      folder: must not exist yet; the same one for all processes.
      variables: parameters and model state.

    Raises:
      OSError: the folder exists, or writing failed.
    """
    _write(folder, variables._asdict())


def _write(folder: Path, content: PyTree) -> None:
    from orbax.checkpoint import v1 as ocp

    if hosts.is_main():
        if folder.exists():
            raise FileExistsError(f"{folder} exists; a checkpoint is never overwritten")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_space(folder, content)
    content = jax.tree.map(lambda leaf: leaf if leaf.size else None, content)  # Orbax refuses them
    if jax.process_count() > 1:  # Orbax cannot write arrays that live on one process's device
        content = jax.tree.map(np.asarray, content)
    try:
        with orbax_paths.for_writing(folder) as path:
            ocp.save(path, content)
    except ValueError as error:  # what Orbax raises for a full disk
        raise _disk_error(folder, error) from error


def restore(
    folder: str | os.PathLike, like: Variables, *, argument: str = "checkpoint"
) -> Variables:
    """Read a trained model.

    Args:
      folder: as written by `export`, or another checkpoint, see `training.foreign_checkpoints`.
      like: variables of the expected model, for structure, shapes and types.
      argument: Python name of the argument that names the folder, for errors.

    Raises:
      InputError: it is not a checkpoint, is damaged, or does not hold such a model.
    """
    folder = paths.anywhere(argument, folder)
    tree = read_checkpoint(folder, argument)
    found = find_variables(tree, like, argument=argument, source=folder)
    return _checked(found, like, argument)


def save_checkpoint(folder: str | os.PathLike, params: Any) -> None:
    """Write a trained model for `ltu_jax.unlearn(checkpoint=...)`.

    Args:
      folder: must not exist yet.
      params: what `unlearn(params=...)` takes.

    Raises:
      InputError: the folder exists.
      OSError: writing failed.
    """
    content = jax.tree.map(jnp.asarray, _content(params))
    if paths.is_bucket(folder):
        _export_to_bucket(paths.anywhere("folder", folder), content)
        return
    folder = paths.local("folder", folder)
    if folder.exists():
        raise InputError("folder", f"{folder} exists", "name a new one")
    _write(folder, content)


def _export_to_bucket(folder: str, content: PyTree) -> None:
    from orbax.checkpoint import v1 as ocp

    try:
        ocp.save(folder, content)
    except ImportError as error:
        raise bucket_error("folder", folder, error) from error


def as_variables(params: Any, like: Variables, *, argument: str = "params") -> Variables:
    """Return the arrays of a trained model in the form of `like`, checked and copied.

    Args:
      params: an NNX module or its state; Linen variables `{"params": ..., "batch_stats": ...}`;
        `Variables`; a training state; or the pytree of parameters of a model without model state.
      like: variables of the expected model, for structure, shapes and types.
      argument: Python name of the argument, for errors.

    Raises:
      InputError: the model has another architecture, or an array holds NaN or infinity.
    """
    found = find_variables(params, like, argument=argument, source="the given tree")
    return _checked(found, like, argument)


def save_state(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and settings with their digests to a new folder.

    All processes call this together, with the same arrays; all but Orbax's part is done by
    process 0.

    Args:
      folder: must not exist yet.
      arrays: host arrays, none of them empty.
      about: JSON values, `config` among them.

    Raises:
      OSError: the folder exists, or writing failed; what may be left has a name that begins with
        `files.PART`.
    """
    from orbax.checkpoint import v1 as ocp

    part = folder.with_name(files.PART + folder.name)
    if hosts.is_main():
        files.remove(part)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_space(folder, arrays)
        part.mkdir()
    hosts.meet(f"begin {folder.name}")
    try:
        with orbax_paths.for_writing(part / "arrays") as path:
            ocp.save(path, dict(arrays))
        if hosts.is_main():
            digests = {
                "arrays": files.array_digest(arrays),
                "files": files.file_digests(part / "arrays"),
            }
            files.write_checksummed(part / ABOUT, {**about, **digests})
            files.publish(part, folder)
    except ValueError as error:  # what Orbax raises for a full disk
        raise _disk_error(folder, error) from error
    finally:
        if hosts.is_main():
            files.remove(part)
    hosts.meet(f"end {folder.name}")


def load_state(folder: Path, config: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and settings that `save_state` wrote.

    Every file is compared with its digest before Orbax reads it, and the arrays after that.

    Args:
      folder: as written.
      config: the expected `about["config"]`.

    Raises:
      DamagedError: something is missing, changed, or of another run.
    """
    from orbax.checkpoint import v1 as ocp

    about = files.read_checksummed(folder / ABOUT)
    if about.get("config") != config:
        raise DamagedError("belongs to another run or to other settings")
    files.check_files(folder / "arrays", about["files"])
    with orbax_paths.for_reading(folder / "arrays") as path:
        arrays = {name: np.asarray(x) for name, x in ocp.load(path).items()}
    if files.array_digest(arrays) != about["arrays"]:
        raise DamagedError("arrays differ from what was written")
    return arrays, about


def _check_space(folder: Path, arrays: PyTree) -> None:
    """Raise `OSError` if the disk has no room for `arrays`; Orbax's own error fills pages."""
    free = shutil.disk_usage(folder.parent).free
    if free < sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + OVERHEAD_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _disk_error(folder: Path, error: ValueError) -> OSError:
    """Return the system's error, which Orbax wraps in a `ValueError` of many lines."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number), str(folder))
    return OSError(f"could not write the checkpoint {folder}: {error}")


def _content(params: Any) -> PyTree:
    """Return what `save_checkpoint` writes: separate parameters and model state."""
    if isinstance(params, nnx.Module):
        params = nnx_variables(params)
    if isinstance(params, nnx.State):
        return nnx_state(params)
    if isinstance(params, Variables):
        return params._asdict()
    if isinstance(params, flax.core.FrozenDict):
        params = flax.core.unfreeze(params)
    if isinstance(params, Mapping) and "params" in params:
        return dict(params)
    return {"params": params}


def _checked(found: Variables, like: Variables, argument: str) -> Variables:
    """Return arrays with the types of `like`, not committed to a device.

    Raises:
      InputError: an array has another type, or a parameter or NaN is not finite.
    """

    def array(path: tuple, leaf: Any, expected: Any) -> jax.Array:
        name, value = jax.tree_util.keystr(path), np.asarray(leaf)
        floats = all(jnp.issubdtype(dtype, jnp.floating) for dtype in (value.dtype, expected.dtype))
        if value.dtype != expected.dtype and not floats:
            raise InputError(argument, f"has {value.dtype} in {name}", f"give {expected.dtype}")
        if floats:
            numbers = value.astype(np.float32)
            is_parameter = path[0] == jax.tree_util.GetAttrKey("params")
            wrong = ~np.isfinite(numbers) if is_parameter else np.isnan(numbers)
            if wrong.any():
                problem = f"holds NaN or infinity in {name} ({int(wrong.sum())} of {wrong.size})"
                raise InputError(argument, problem, "give finite parameters")
        # Loaded arrays are committed to their device, which would compile every later step again.
        return jnp.array(value, expected.dtype)

    return jax.tree_util.tree_map_with_path(array, found, like)
