"""Functions of the user's own, named on the command line as `package.module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from ltu_jax.errors import InputError


def import_function(name: str, flag: str) -> Callable:
    """Import the function that `name` (`package.module:function`) stands for.

    The working directory is searched too, as `python -m` does; a console script does not.

    Args:
      name: as the user wrote it.
      flag: the argument that errors call it by, such as `--data`.

    Raises:
      InputError: the module cannot be imported, or has no such function.

    >>> import_function("math:sqrt", "--data")(9.0)
    3.0
    """
    module_name, _, function_name = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{flag} {name}: cannot import {module_name!r} ({error}); "
            "run from the folder that holds it, or install it"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(
            f"{flag} {name}: {module_name!r} has no function {function_name!r}; "
            "name one that it has"
        )
    return function
