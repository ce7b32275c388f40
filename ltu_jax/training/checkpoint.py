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
from ltu_jax.models import nnx_variables
from ltu_jax.training import hosts, orbax_paths
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
    from orbax.checkpoint import v1 as ocp

    if hosts.is_main():
        if folder.exists():
            raise FileExistsError(f"{folder} exists; a checkpoint is never overwritten")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_space(folder, variables)
    content = variables._asdict()
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
    """Read an exported model.

    Args:
      folder: as written by `export`, or any Orbax checkpoint of `{"params": ..., "state": ...}`.
      like: variables of the expected model, for structure, shapes and types.
      argument: Python name of the argument that names the folder, for errors.

    Raises:
      InputError: the folder is not a checkpoint, holds a model of another architecture (found by
        reading the metadata, before any array), or is damaged.
    """
    from orbax.checkpoint import v1 as ocp

    folder = paths.anywhere(argument, folder)
    folder = folder if paths.is_bucket(folder) else Path(folder).absolute()
    intact = "give an intact copy"
    try:
        with orbax_paths.for_reading(folder) as path:
            stored = ocp.metadata(path).metadata
    except ImportError as error:
        raise bucket_error(argument, str(folder), error) from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # InvalidLayout is one
        raise InputError(
            argument,
            f"{folder} is not an Orbax checkpoint",
            "give the folder that a run wrote, such as RUN/original",
        ) from error
    if not jax.tree.leaves(stored):
        raise InputError(argument, f"{folder} is damaged (it lists no arrays)", intact)
    difference = _first_difference(stored, like._asdict())
    if difference:
        raise InputError(
            argument,
            f"{folder} holds a model of another architecture: {difference}",
            "give the `model` and `data` that it was trained with",
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like._asdict()
    )
    try:
        with orbax_paths.for_reading(folder) as path:
            loaded = ocp.load(path, abstract)
    except Exception as error:  # Orbax raises bare exceptions for missing and truncated files
        problem = f"{folder} is damaged ({type(error).__name__} while its arrays were read)"
        raise InputError(argument, problem, intact) from error
    # Loaded arrays are committed to their device, which would compile every later step again.
    return Variables(**jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), loaded))


def save_checkpoint(folder: str | os.PathLike, params: Any) -> None:
    """Write a trained model for `ltu_jax.unlearn(checkpoint=...)`.

    Args:
      folder: must not exist yet.
      params: an NNX module, Linen variables, `Variables`, or the pytree of parameters of a model
        without model state.

    Raises:
      InputError: the folder exists.
      OSError: writing failed.
    """
    variables = jax.tree.map(jnp.asarray, _parts(params, like=None))
    if paths.is_bucket(folder):
        _export_to_bucket(paths.anywhere("folder", folder), variables)
        return
    folder = paths.local("folder", folder)
    if folder.exists():
        raise InputError("folder", f"{folder} exists", "name a new one")
    export(folder, variables)


def _export_to_bucket(folder: str, variables: Variables) -> None:
    from orbax.checkpoint import v1 as ocp

    try:
        ocp.save(folder, variables._asdict())
    except ImportError as error:
        raise bucket_error("folder", folder, error) from error


def bucket_error(argument: str, folder: str, error: ImportError) -> InputError:
    """Return the error of a bucket whose client is not installed."""
    reason = " ".join(str(error).split())
    return InputError(
        argument, f"{folder} cannot be reached ({reason})", "install it, or give a local copy"
    )


def as_variables(params: Any, like: Variables) -> Variables:
    """Return the arrays of a trained model in the form of `like`, checked and copied.

    Args:
      params: an NNX module; Linen variables `{"params": ..., "batch_stats": ...}`; `Variables`;
        or, for models without model state, the pytree of parameters.
      like: variables of the expected model, for structure, shapes and types.

    Raises:
      InputError: the model has another architecture, or an array holds NaN or infinity.
    """
    variables = _parts(params, like)
    difference = _first_difference(variables._asdict(), like._asdict())
    if difference:
        raise InputError(
            "params",
            f"do not fit the model: {difference}",
            "give the `model` and `data` that they were trained with, and with BatchNorm its "
            "statistics too",
        )
    arrays = _by_path(variables)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _array(jax.tree_util.keystr(path), arrays, leaf), like
    )


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


def _parts(params: Any, like: Variables | None) -> Variables:
    """Separate parameters and model state."""
    if isinstance(params, Variables):
        return params
    if isinstance(params, nnx.Module):
        return nnx_variables(params)
    params = flax.core.unfreeze(params) if isinstance(params, flax.core.FrozenDict) else params
    is_bare = like is not None and _first_difference(params, like.params) is None
    if isinstance(params, Mapping) and "params" in params and not is_bare:
        state = {name: value for name, value in params.items() if name != "params"}
        return Variables(params["params"], state)
    return Variables(params, {})


def _array(name: str, arrays: Mapping[str, Any], like: jax.ShapeDtypeStruct) -> jax.Array:
    """Return a copy of an array with the type of `like`, not committed to a device."""
    array = np.asarray(arrays[name])
    floats = (jnp.issubdtype(dtype, jnp.floating) for dtype in (array.dtype, like.dtype))
    if array.dtype != like.dtype and not all(floats):
        raise InputError("params", f"{name} is {array.dtype}", f"give {like.dtype}")
    array = jnp.array(array, like.dtype)
    if jnp.issubdtype(like.dtype, jnp.inexact) and not jnp.isfinite(array).all():
        raise InputError("params", f"{name} holds NaN or infinity", "give finite parameters")
    return array


def _first_difference(stored: PyTree, expected: PyTree) -> str | None:
    """Return where two trees of arrays differ in structure or shape, or None."""
    one, other = _by_path(stored), _by_path(expected)
    for name in sorted(one.keys() | other.keys()):
        shapes = [np.shape(tree[name]) if name in tree else None for tree in (one, other)]
        if shapes[0] != shapes[1]:
            found, wanted = ("nothing" if s is None else f"shape {s}" for s in shapes)
            return f"{name} has {found}, expected {wanted}"
    return None


def _by_path(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
