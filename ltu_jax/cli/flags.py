"""Errors of the library in the words of the command line: Python names become flags."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from ltu_jax.errors import InputError

REQUESTS = ("forget_ids", "forget_class", "forget_group", "forget_fraction")
# Python names that are spelt differently on the command line.
SPELLINGS = {"types": "type"}
# Python functions that are commands.
COMMANDS = {
    "resume": "ltu unlearn --resume",
    "make_ensembles": "ltu ensemble",
}


def in_flags(error: InputError, command: Any) -> str:
    """Return the message of an error with the flags of a command instead of Python names.

    Args:
      error: an error of the library.
      command: the options of the command, one of the dataclasses in `cli.options`.

    >>> from ltu_jax.cli.options import Unlearn
    >>> in_flags(InputError("params", "are given", "leave out `checkpoint`"), Unlearn())
    'params: are given; leave out --checkpoint'
    """

    def backticked(match: re.Match) -> str:
        return flag(match[1], command) or COMMANDS.get(match[1]) or match[0]

    parts = [re.sub(r"`(\w+)`", backticked, part) for part in (error.problem, error.remedy)]
    resumed = error.argument == "run" and getattr(command, "resume", None)
    head = flag("resume" if resumed else error.argument, command) or error.argument
    text = f"{head}: {parts[0]}" if parts[0] else head
    return f"{text}; {parts[1]}" if parts[1] else text


def flag(name: str, command: Any) -> str | None:
    """Return how a command spells a Python name, or None if it has no such option."""
    name = SPELLINGS.get(name, name)
    if name == "forget":
        given = [other for other in REQUESTS if getattr(command, other, None) is not None]
        name = given[0] if given else "forget_ids"
    types = {entry.name: str(entry.type) for entry in fields(command)}
    if name not in types:
        return None
    return name.upper() if "Positional" in types[name] else f"--{name.replace('_', '-')}"
