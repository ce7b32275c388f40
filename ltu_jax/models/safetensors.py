"""Parameters from a safetensors file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from flax.traverse_util import unflatten_dict

from ltu_jax.errors import InputError
from ltu_jax.types import Array, PyTree

Convert = Callable[[str, Array], tuple[str, Array] | None]


def load_safetensors(
    path: str | os.PathLike, convert: Convert | None = None, *, argument: str = "path"
) -> PyTree:
    """Return the arrays of a safetensors file as nested dicts, for `ltu_jax.unlearn(params=...)`.

    Args:
      path: of the file; needs `pip install safetensors`.
      convert: `(name, array) -> (name, array)`, or None to leave an array out. For files of torch,
        rename `weight` to `kernel` and transpose. Default: no change.
      argument: Python name of the argument that names the file, for errors.

    Returns:
      Nested dicts: the array `encoder.dense.kernel`, or `encoder/dense/kernel`, is at
      `["encoder"]["dense"]["kernel"]`.

    Raises:
      InputError: `safetensors` is not installed, the file cannot be read, or the name of one array
        is a prefix of another's.
    """
    try:
        import safetensors
        from safetensors.flax import load_file
    except ImportError as error:
        raise InputError(
            argument, "needs the package safetensors", "pip install safetensors"
        ) from error
    try:
        arrays = load_file(os.fspath(path))
    except (OSError, safetensors.SafetensorError) as error:
        problem = f"{os.fspath(path)} cannot be read ({error})"
        raise InputError(argument, problem, "give an intact file") from error
    pairs = [
        (name, array) if convert is None else convert(name, array) for name, array in arrays.items()
    ]
    flat = {tuple(re.split(r"[./]", name)): array for name, array in filter(None, pairs)}
    for path_of in flat:
        for end in range(1, len(path_of)):
            if path_of[:end] in flat:
                prefix, name = ".".join(path_of[:end]), ".".join(path_of)
                problem = f"{os.fspath(path)} has the arrays {prefix} and {name}"
                raise InputError(argument, problem, "rename one by `convert`")
    return unflatten_dict(flat)
