"""Exported networks: an Orbax checkpoint that holds parameters and model state, nothing else."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.types import Variables


def export(folder: Path, variables: Variables) -> None:
    """Write `variables` to a new folder; the folder appears whole or not at all.

    Args:
      folder: must not exist yet.
      variables: parameters and model state.

    Raises:
      OSError: the folder exists, or the disk refused it.
    """
    from orbax.checkpoint import v1 as ocp

    if folder.exists():
        raise FileExistsError(f"{folder} exists; a checkpoint is never written over")
    try:
        ocp.save(folder.absolute(), variables._asdict())
    except ValueError as error:  # what Orbax makes of a full disk
        raise OSError(f"could not write the checkpoint {folder}: {error}") from error


def restore(folder: str | Path, like: Variables, *, argument: str = "--checkpoint") -> Variables:
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
    except (FileNotFoundError, NotADirectoryError, ocp.errors.InvalidLayoutError) as error:
        raise InputError(
            f"{argument} {folder} is no Orbax checkpoint; give the folder that a run wrote, "
            "such as RUN/original"
        ) from error
    if not jax.tree.leaves(stored):
        raise InputError(f"{argument} {folder} is damaged (it lists no array); give an intact copy")
    difference = _first_difference(stored, like._asdict())
    if difference:
        raise InputError(
            f"{argument} {folder} holds a network of another architecture: {difference}; "
            "give the --model and --data it was trained with"
        )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
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


def _first_difference(stored, expected) -> str | None:
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
