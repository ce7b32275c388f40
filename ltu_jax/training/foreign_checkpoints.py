"""Checkpoints of every kind that JAX users have, read as trees of arrays.

Read: Orbax (both versions, with a `CheckpointManager` or without), msgpack of Flax, npz,
safetensors and a folder of Hugging Face. All others are named and refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import flax.serialization
import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from ltu_jax import paths
from ltu_jax.errors import InputError, few, warn
from ltu_jax.models import load_safetensors
from ltu_jax.training import orbax_paths
from ltu_jax.types import PyTree

_WAY_OUT = (
    "read it in Python and give the arrays as `params`, or write them by ltu_jax.save_checkpoint"
)
_STEP = re.compile(r"(?:.*[_.-])?(\d+)")
_HUGGING_FACE = ("model.safetensors", "flax_model.msgpack")
_REFUSED = {
    ".bin": "a file of torch",
    ".pt": "a file of torch",
    ".pth": "a file of torch",
    ".h5": "a file of Keras (HDF5)",
    ".hdf5": "an HDF5 file",
    ".keras": "a file of Keras",
    ".eqx": "a file of Equinox, which is read into a module",
    ".npy": "a single array",
}


def read_checkpoint(path: str | Path, argument: str) -> PyTree:
    """Return the arrays of a checkpoint.

    Args:
      path: of a file or folder, or of an Orbax checkpoint in a bucket.
      argument: Python name of the argument that names it, for errors.

    Raises:
      InputError: there is nothing, it is damaged, or it is of a kind that is not read.
    """
    if paths.is_bucket(path):
        tree = _read_orbax(str(path), argument)
        if tree is None:
            raise InputError(
                argument, f"{path} is not an Orbax checkpoint", "copy it from the bucket"
            )
        return tree
    path = Path(path).absolute()
    if not path.exists():
        raise InputError(argument, f"{path} does not exist", "name an existing checkpoint")
    if path.is_file():
        return _read_file(path, argument)
    if (path / "run.json").exists():
        remedy = f"give one of its models, such as {path / 'unlearned'}"
        raise InputError(argument, f"{path} is the folder of a run", remedy)
    for name in _HUGGING_FACE:
        if (path / name).is_file():
            return _read_file(path / name, argument)
    if (path / "model.safetensors.index.json").is_file():
        parts = sorted(path.glob("model-*.safetensors"))
        return {key: tree for part in parts for key, tree in _read_file(part, argument).items()}
    return _read_folder(path, argument)


def _read_folder(path: Path, argument: str) -> PyTree:
    """Read an Orbax checkpoint, or the newest one in a folder of several steps."""
    parts = sorted(path.iterdir())
    tree = _read_orbax(path, argument) if parts else None
    if tree is not None:
        return tree
    steps = {int(match[1]): part for part in parts if (match := _STEP.fullmatch(part.name))}
    others = [part for part in parts if part.is_dir() and part not in steps.values()]
    if others or not steps:
        found = f"holds {few(part.name for part in parts)}" if parts else "is empty"
        raise InputError(
            argument,
            f"{path} is not a checkpoint; it {found}",
            "give a folder of Orbax such as RUN/original, or a .msgpack, .npz or .safetensors file",
        )
    newest = steps[max(steps)]
    if len(steps) > 1:
        warn(f"{path.name} holds {len(steps)} checkpoints; the newest is read, step {max(steps)}")
    return read_checkpoint(newest, argument)


def _read_file(path: Path, argument: str) -> PyTree:
    """Read a file of arrays; its first bytes say what it is, and its name if they do not."""
    with path.open("rb") as file:
        head = file.read(9)
        file.seek(-1 if path.stat().st_size else 0, 2 if path.stat().st_size else 0)
        last = file.read(1)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and last == b".":
        _refuse(path, argument, "a pickle, which may run any code when it is read")
    if head.startswith(b"\x89HDF"):
        _refuse(path, argument, "an HDF5 file")
    if head.startswith(b"PK") and path.suffix not in (".keras",):
        return _intact(path, argument, _read_npz)
    if path.suffix in _REFUSED:
        _refuse(path, argument, _REFUSED[path.suffix])
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return load_safetensors(path, argument=argument)
    if path.suffix == ".npz":
        return _intact(path, argument, _read_npz)
    if path.suffix == ".msgpack" or (head and (head[0] >> 4 == 8 or head[0] in (0xDE, 0xDF))):
        return _intact(path, argument, lambda p: flax.serialization.msgpack_restore(p.read_bytes()))
    _refuse(path, argument, f"a {path.suffix or 'nameless'} file, which is not known")


def _refuse(path: Path, argument: str, what: str) -> NoReturn:
    raise InputError(argument, f"{path} is {what}", _WAY_OUT)


def _intact(path: Path, argument: str, read: Callable[[Path], PyTree]) -> PyTree:
    """Return `read(path)`; readers of damaged files raise many exceptions."""
    try:
        tree = read(path)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        problem = f"{path} is damaged or another kind of file ({reason})"
        raise InputError(argument, problem, "give an intact copy") from error
    if not jax.tree.leaves(tree):
        raise InputError(argument, f"{path} holds no arrays", "give an intact copy")
    return tree


def _read_npz(path: Path) -> PyTree:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not all(name.endswith(".npy") for name in names):
        _refuse(path, "checkpoint", f"a zip file of {few(names)}, as torch and Keras write")
    with np.load(path, allow_pickle=False) as arrays:
        return unflatten_dict({_keys(name): arrays[name] for name in arrays.files})


def _keys(name: str) -> tuple[str, ...]:
    """Return the keys of a flat name, written with slashes, points or brackets.

    >>> _keys("params/Dense_0/kernel"), _keys("['layers'][0].bias")
    (('params', 'Dense_0', 'kernel'), ('layers', '0', 'bias'))
    """
    return tuple(re.findall(r"[^/.\[\]'\"]+", name))


def _read_orbax(path: str | Path, argument: str) -> PyTree | None:
    """Return the tree of an Orbax checkpoint, or None if the folder is not one."""
    items = _orbax_items(path, argument)
    if items is None and isinstance(path, Path) and (path / "_METADATA").exists():
        # The folder of one item of a checkpoint, such as `default`, cannot be read by itself.
        parent = _orbax_items(path.parent, argument)
        return None if parent is None else parent[path.name]
    if items is None:
        return None
    return next(iter(items.values())) if len(items) == 1 else items


def _orbax_items(path: str | Path, argument: str) -> dict[str, PyTree] | None:
    """Return the named trees of an Orbax checkpoint; one without names has the name ""."""
    with orbax_paths.for_reading(path) as readable:
        try:
            return _named_trees(readable, path, argument)
        except ImportError as error:
            raise bucket_error(argument, str(path), error) from error


def bucket_error(argument: str, folder: str, error: ImportError) -> InputError:
    """Return the error of a bucket whose client is not installed."""
    reason = " ".join(str(error).split())
    return InputError(
        argument, f"{folder} cannot be reached ({reason})", "install it, or give a local copy"
    )


def _named_trees(readable: str, path: str | Path, argument: str) -> dict[str, PyTree] | None:
    from orbax.checkpoint import v1 as ocp

    def unnamed(path: str, tree: PyTree) -> PyTree:
        return {"": ocp.load(path, tree[""])}

    described, load = None, ocp.load_checkpointables
    try:
        described = ocp.checkpointables_metadata(readable).metadata
    except (FileNotFoundError, NotADirectoryError, ValueError):  # InvalidLayout is one
        try:
            described, load = {"": ocp.metadata(readable).metadata}, unnamed
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
    if not jax.tree.leaves(described):
        problem = f"{path} is damaged (it lists no arrays)"
        raise InputError(argument, problem, "give an intact copy")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def abstract(leaf: Any) -> Any:
        is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) if is_array else leaf

    try:
        return dict(load(readable, jax.tree.map(abstract, described)))
    except Exception as error:  # Orbax raises bare exceptions for missing and truncated files
        problem = f"{path} is damaged ({type(error).__name__} while its arrays were read)"
        raise InputError(argument, problem, "give an intact copy") from error
