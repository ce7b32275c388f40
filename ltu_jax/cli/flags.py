"""Errors of the library in the words of the command line: Python names become flags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ltu_jax.errors import InputError

REQUESTS = ("forget_ids", "forget_class", "forget_group", "forget_fraction")
# Python names that are spelt differently on the command line.
SPELLINGS = {"types": "type", "column": "forget_id_column", "retrain": "retrain_checkpoint"}
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
    parts = [spelled(part, command) for part in (error.problem, error.remedy)]
    resumed = error.argument == "run" and getattr(command, "resume", None)
    head = flag("resume" if resumed else error.argument, command) or error.argument
    text = f"{head}: {parts[0]}" if parts[0] else head
    return f"{text}; {parts[1]}" if parts[1] else text


def spelled(text: str, command: Any) -> str:
    """Return a sentence of the library with the flags of a command in place of `names`."""

    def backticked(match: re.Match) -> str:
        return flag(match[1], command) or COMMANDS.get(match[1]) or match[0]

    return re.sub(r"`(\w+)`", backticked, text)


def check_once(arguments: Sequence[str]) -> None:
    """Raise `InputError` if an option is given twice; the parser would keep only the last one."""
    names = [word.partition("=")[0].replace("_", "-") for word in arguments if word[:2] == "--"]
    for name in names:
        if names.count(name) > 1:
            argument = name.removeprefix("--").replace("-", "_")
            remedy = "give it once; where several values fit, write them after it"
            raise InputError(argument, f"is given {names.count(name)} times", remedy)


def without_values(arguments: Sequence[str]) -> list[str]:
    """Return a command line for reports, without the values of group columns.

    >>> without_values(["unlearn", "--forget-group", "patient=Ann", "--seed", "1"])
    ['unlearn', '--forget-group', 'patient=VALUE', '--seed', '1']
    """
    shown, in_group = [], False
    for word in arguments:
        if word.startswith("--"):
            name, equals, rest = word.partition("=")
            in_group = name.replace("_", "-") == "--forget-group"
            word = f"{name}={_column_of(rest)}" if in_group and equals else word
        elif in_group:
            word = _column_of(word)
        shown.append(word)
    return shown


def _column_of(group: str) -> str:
    column, equals, _ = group.partition("=")
    return f"{column}=VALUE" if equals else group


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
