"""The exceptions of the library, and the checks that options share."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any


class InputError(ValueError):
    """Bad input, found before any compute.

    Attributes:
      argument: Python name of the argument that is wrong; the command line prints its flag.
      problem: what is wrong with its value, the value included.
      remedy: what to do. Other arguments stand in backticks, so that the command line can
        replace them by their flags.

    >>> print(InputError("epochs", "is 0", "give a number above 0"))
    epochs: is 0; give a number above 0
    """

    def __init__(self, argument: str, problem: str = "", remedy: str = ""):
        self.argument, self.problem, self.remedy = argument, problem, remedy
        text = f"{argument}: {problem}" if problem else argument
        super().__init__(f"{text}; {remedy}" if remedy else text)


class TamperedError(InputError):
    """A ledger, or a network that it names, is not what was written; the exit code is 1."""


class DivergedError(ArithmeticError):
    """A loss or parameter became NaN or infinite during a run."""


class InvariantError(RuntimeError):
    """A method broke what it claims of its result, such as moving a weight that it froze."""


def check_range(
    config: Any, names: Sequence[str], fits: Callable[[Any], bool], wanted: str
) -> None:
    """Raise `InputError` unless every named attribute of `config` fits.

    >>> from types import SimpleNamespace
    >>> check_range(SimpleNamespace(epochs=0), ("epochs",), lambda x: x > 0, "a number above 0")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: epochs is 0; give a number above 0
    """
    for name in names:
        if not fits(getattr(config, name)):
            raise InputError(f"{name} is {getattr(config, name)}; give {wanted}")


def check_integer(argument: str, value: Any) -> None:
    """Raise `InputError` unless `value` is an integer of 32 bits, in which steps are counted.

    >>> check_integer("--trials", 2.5)
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: --trials 2.5: is no integer below 2**31; give one
    """
    try:
        fits = not isinstance(value, bool) and abs(operator.index(value)) < 2**31
    except TypeError:
        fits = False
    if not fits:
        raise InputError(f"{argument} {value!r}: is no integer below 2**31; give one")


def check_path(argument: str, path: Any) -> None:
    r"""Raise `InputError` unless `path` can name a file: a string or a `Path` of valid text.

    >>> check_path("--out", "a\0b")
    Traceback (most recent call last):
      ...
    ltu_jax.errors.InputError: --out 'a\x00b': is no path (NUL character); give another
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        problem = f"a {type(path).__name__}"
    elif "\0" in name:
        problem = "NUL character"
    elif not is_text(name):
        problem = "not UTF-8"
    else:
        return
    raise InputError(f"{argument} {name!r}: is no path ({problem}); give another")


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which undecoded bytes in it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
