"""Exceptions of the library, warnings, checks of arguments, and short forms of values."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_log = logging.getLogger(__name__)
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


class InputError(ValueError):
    """Bad input, found before any compute.

    Attributes:
      argument: Python name of the argument; the command line prints its flag.
      problem: what is wrong with the value, the value included.
      remedy: what to do. Other arguments are named in backticks, which the command line replaces
        by their flags.

    >>> print(InputError("epochs", "is 0", "give a number above 0"))
    epochs: is 0; give a number above 0
    """

    def __init__(self, argument: str, problem: str, remedy: str):
        self.argument, self.problem, self.remedy = argument, problem, remedy
        super().__init__(f"{argument}: {problem}; {remedy}")


class TamperedError(InputError):
    """A ledger or a model that it names differs from what was written; exit code 1."""


class DamagedError(Exception):
    """A file is missing, differs from what was written, or belongs to another run."""


class DivergedError(ArithmeticError):
    """A loss or parameter became NaN or infinite during a run."""


class InvariantError(RuntimeError):
    """A result breaks an invariant of its method, such as a frozen weight that changed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a run that can be continued.

    Attributes:
      run: the folder of the run.
    """

    def __init__(self, run: str):
        self.run = run
        super().__init__(f"stopped by Ctrl-C; continue with ltu_jax.resume({run!r})")


def warn(message: str, details: str = "") -> None:
    """Log what may be a mistake of the user but need not be; the report of the run repeats it.

    Args:
      message: one sentence without ids or values of group columns, which stay out of reports.
      details: what only the log shows, such as the ids that are meant.
    """
    collected = _collected.get()
    if collected is not None:
        if message in collected:
            return  # once per plan
        collected.append(message)
    _log.warning("%s", f"{message}: {details}" if details else message)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Yield a list that receives every message of `warn` inside the block.

    >>> with collect_warnings() as found:
    ...     warn("one class has no examples")
    >>> found
    ['one class has no examples']
    """
    collected: list[str] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def check_range(
    config: Any, names: Sequence[str], fits: Callable[[Any], bool], expected: str
) -> None:
    """Raise `InputError` unless every named attribute of `config` fits.

    >>> from types import SimpleNamespace
    >>> check_range(SimpleNamespace(epochs=0), ("epochs",), lambda x: x > 0, "a number above 0")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: epochs: is 0; give a number above 0
    """
    for name in names:
        if not fits(getattr(config, name)):
            raise InputError(name, f"is {getattr(config, name)}", f"give {expected}")


def check_integer(argument: str, value: Any) -> None:
    """Raise `InputError` unless `value` is an integer that fits into 32 bits.

    >>> check_integer("trials", 2.5)
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: trials: is 2.5; give an integer below 2**31
    """
    try:
        fits = not isinstance(value, bool) and abs(operator.index(value)) < 2**31
    except TypeError:
        fits = False
    if not fits:
        raise InputError(argument, f"is {short(value)}", "give an integer below 2**31")


def check_path(argument: str, path: Any) -> None:
    r"""Raise `InputError` unless `path` can name a file: a string or a `Path` of valid text.

    >>> check_path("out", "a\0b")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: out: is 'a\x00b', which has a NUL character; give another path
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        problem = f"is a {type(path).__name__}"
    elif "\0" in name:
        problem = f"is {name!r}, which has a NUL character"
    elif not is_text(name):
        problem = f"is {name!r}, which is not UTF-8"
    else:
        return
    raise InputError(argument, problem, "give another path")


def is_text(value: str) -> bool:
    """Return whether a string can be encoded as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def few(values: Iterable) -> str:
    """Return the first three values on one line, and their number if there are more."""
    shown = list(values)
    first = ", ".join(short(value) for value in shown[:3])
    if len(shown) > 3:
        return f"{first}, ... ({len(shown)} in all)"
    return first or "(none)"


def short(value: Any) -> str:
    """Return `repr(value)` on one line of at most 80 characters."""
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    text = " ".join(repr(plain).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
