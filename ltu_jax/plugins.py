"""Objects of the user's packages, named as `package.module:object`."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltu_jax.errors import InputError


def import_function(name: str, argument: str) -> Callable:
    """Import the function `package.module:function`; arguments as for `import_object`.

    >>> import_function("math:sqrt", "data")(9.0)
    3.0
    """
    return import_object(name, argument, callable, "function")


def import_object(name: str, argument: str, fits: Callable[[Any], bool], expected: str) -> Any:
    """Import the object `package.module:object`.

    The working directory is searched first, as by `python -m` but not by console scripts.

    Args:
      name: of the object.
      argument: Python name of the argument, for errors.
      fits: whether an object is suitable.
      expected: a noun for a suitable object, for errors.

    Raises:
      InputError: the module cannot be imported, or has no suitable object of this name.
    """
    module_name, _, object_name = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        raise _is_a_path(name, argument)
    try:
        with _working_directory_first():
            module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        problem = f"{name} cannot be imported ({error})"
        remedy = f"run from the folder of {module_name!r}, or install it"
        raise InputError(argument, problem, remedy) from error
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        raise _failed(error, argument, f"importing {module_name}") from error
    candidate = getattr(module, object_name, None)
    if not fits(candidate):
        where = getattr(module, "__file__", None) or "built into Python"
        problem = f"{module_name} ({where}) has no {expected} {object_name!r}"
        remedy = f"name an existing {expected}, and a module that has no other module's name"
        raise InputError(argument, problem, remedy)
    return candidate


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """Search the working directory first inside the block, and last after it.

    Packages that are imported later must not find the user's files by their names.
    """
    here, before = str(Path.cwd()), list(sys.path)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path[:] = before if here in before or "" in before else [*before, here]


def _is_a_path(name: str, argument: str) -> InputError:
    """Return the error for a file where a module is expected."""
    path, _, object_name = name.replace("\\", "/").partition(":")
    folder, _, file = path.rpartition("/")
    spelling = f"{file.removesuffix('.py')}:{object_name}"
    where = f" and run from {folder}" if folder else ""
    return InputError(argument, f"is {name}, a path", f"write {spelling}{where}")


def call(function: Callable, *args: Any, argument: str, name: str) -> Any:
    """Return `function(*args)` for a function of the user's.

    Args:
      function: to call.
      *args: its arguments.
      argument: Python name of the argument that named it, for errors.
      name: its name, as the user wrote it.

    Raises:
      InputError: it raised an error; the message says what and where, the cause is chained.
    """
    try:
        return function(*args)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(error, argument, f"calling {name}") from error


def _failed(error: BaseException, argument: str, action: str) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if not isinstance(error, SyntaxError):  # its text has a position already
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason += f" ({Path(frame.filename).name}, line {frame.lineno})"
    return InputError(argument, f"{action} raised {reason}", "correct it there")
