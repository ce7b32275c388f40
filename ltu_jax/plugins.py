"""What is the user's own, named on the command line as `package.module:object`."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ltu_jax.errors import InputError


def import_function(name: str, flag: str) -> Callable:
    """Import the function that `name` (`package.module:function`) stands for.

    Args and errors as for `import_object`; the object must be callable.

    >>> import_function("math:sqrt", "--data")(9.0)
    3.0
    """
    return import_object(name, flag, callable, "function")


def import_object(name: str, flag: str, fits: Callable[[Any], bool], what: str) -> Any:
    """Import the object that `name` (`package.module:object`) stands for.

    The working directory is searched too, as `python -m` does; a console script does not.

    Args:
      name: as the user wrote it.
      flag: the argument that errors call it by, such as `--data`.
      fits: whether an object is what is wanted.
      what: what is wanted, in a word.

    Raises:
      InputError: the module cannot be imported, or has no such object.
    """
    module_name, _, object_name = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        raise InputError(
            f"{flag} {name}: cannot import {module_name!r} ({error}); "
            "run from the folder that holds it, or install it"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a module of the user's does
        raise _failed(error, f"{flag} {name}: importing {module_name!r}") from error
    found = getattr(module, object_name, None)
    if not fits(found):
        raise InputError(
            f"{flag} {name}: {module_name!r} has no {what} {object_name!r}; name one that it has"
        )
    return found


def call(function: Callable, *args: Any, flag: str, name: str) -> Any:
    """Return what a function of the user's returns.

    Args:
      function: as imported, called with `args`.
      *args: its arguments.
      flag: the argument that named it.
      name: how that named it.

    Raises:
      InputError: it raised something; the message says what and where, the cause is chained.
    """
    try:
        return function(*args)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(error, f"{flag} {name}: calling it") from error


def _failed(error: BaseException, what: str) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if not isinstance(error, SyntaxError):  # which names its own place
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason += f" ({Path(frame.filename).name}, line {frame.lineno})"
    return InputError(f"{what} raised {reason}; mend it there")
