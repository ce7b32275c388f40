"""Exported networks: an Orbax checkpoint that holds parameters and model state, nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.training import hosts
from ltu_jax.types import PyTree, Variables

OVERHEAD_BYTES = 1 << 17  # of a checkpoint, beside its arrays


def export(folder: Path, variables: Variables) -> None:
    """Write `variables` to a new folder; the folder appears whole or not at all.

    Several processes call this together.

    Args:
      folder: must not exist yet; the same one for all processes.
      variables: parameters and model state.

    Raises:
      OSError: the folder exists, or the disk refused it.
    """
    from orbax.checkpoint import v1 as ocp

    if hosts.is_main():
        if folder.exists():
            raise FileExistsError(f"{folder} exists; a checkpoint is never written over")
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_space(folder, variables)
    content = variables._asdict()
    if jax.process_count() > 1:  # arrays of one process's device are no one else's to Orbax
        content = jax.tree.map(np.asarray, content)
    try:
        ocp.save(folder.absolute(), content)
    except ValueError as error:  # what Orbax makes of a full disk
        raise disk_error(folder, error) from error


def check_space(folder: Path, arrays: PyTree) -> None:
    """Raise `OSError` if the disk has no room for `arrays`; Orbax would tell it in pages."""
    free = shutil.disk_usage(folder.parent).free
    if free < sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + OVERHEAD_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def disk_error(folder: Path, error: ValueError) -> OSError:
    """Return what the disk said, of which Orbax makes a `ValueError` of many lines."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number), str(folder))
    return OSError(f"could not write the checkpoint {folder}: {error}")


def restore(
    folder: str | os.PathLike, like: Variables, *, argument: str = "--checkpoint"
) -> Variables:
    """Read an exported network.

    Args:
      folder: as written by `export`, or any Orbax checkpoint of `{"params": ..., "state": ...}`.
      like: variables of the network that is expected, for structure, shapes and types.
      argument: the name that errors call the folder by.

    Returns:
      The stored variables.

    Raises:
      InputError: there is no checkpoint, it holds a network of another architecture (found by
        reading the metadata, before any array), or its arrays are damaged.
    """
    from orbax.checkpoint import v1 as ocp

    folder = Path(folder).absolute()
    try:
        stored = ocp.metadata(folder).metadata
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # InvalidLayout is one
        raise InputError(
            f"{argument} {folder} is no Orbax checkpoint; give the folder that a run wrote, "
            "such as RUN/original"
        ) from error
    if not jax.tree.leaves(stored):
        raise InputError(f"{argument} {folder} is damaged (it lists no array); give an intact copy")
    difference = first_difference(stored, like._asdict())
    if difference:
        raise InputError(
            f"{argument} {folder} holds a network of another architecture: {difference}; "
            "give the --model and --data it was trained with"
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like._asdict()
    )
    try:
        loaded = ocp.load(folder, abstract)
    except Exception as error:  # Orbax raises bare exceptions for missing and truncated files
        raise InputError(
            f"{argument} {folder} is damaged ({type(error).__name__} while reading its arrays); "
            "give an intact copy"
        ) from error
    # Loaded arrays are bound to their device, which would compile every later step anew.
    return Variables(**jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), loaded))


def first_difference(stored: PyTree, expected: PyTree) -> str | None:
    """Say where two trees of arrays differ in structure or shape, or return None."""
    stored, expected = (
        {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in _leaves(tree)}
        for tree in (stored, expected)
    )
    for name in sorted(stored.keys() | expected.keys()):
        if stored.get(name) != expected.get(name):
            found, wanted = (
                "nothing" if shape is None else f"shape {shape}"
                for shape in (stored.get(name), expected.get(name))
            )
            return f"{name} has {found}, expected {wanted}"
    return None


def _leaves(tree):
    return jax.tree_util.tree_flatten_with_path(tree)[0]
