"""Requested classes found among the names and indices of a data set's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ltu_jax.data.matching import by_text, difference
from ltu_jax.errors import InputError, few, warn


def class_indices(
    values: Iterable[str | int],
    names: Sequence[str],
    error: Callable[[str, str], InputError] = lambda *why: InputError("forget", *why),
) -> list[int]:
    """Return the indices of the requested classes.

    Args:
      values: names or indices; `"name=1"` and `"index=1"` say which of the two is meant.
      names: of all classes.
      error: from a problem and a remedy to the error to raise.

    Raises:
      InputError: there is no such class, or a value means two classes.

    >>> class_indices(["dog", 0, "index=1"], ["cat", "dog"])
    [1, 0, 1]
    """
    return [_find(value, names, error) for value in values]


def _find(value: str | int, names: Sequence[str], error: Callable[[str, str], InputError]) -> int:
    shown = str(value)
    kind, equals, rest = shown.partition("=")
    if equals and shown not in names and kind in ("name", "index"):
        found = {_by_name(rest, names) if kind == "name" else _by_index(rest, names)}
    else:
        found = {_by_index(shown, names), names.index(shown) if shown in names else None} - {None}
    if len(found) > 1:
        problem = f"{shown} is the name of one class and the index of {names[int(shown)]!r}"
        raise error(problem, f"write name={shown} or index={shown}")
    index = found.pop() if found else _by_name(shown, names)
    if index is None:
        remedy = f"give an index below {len(names)} or a name such as {few(names)}"
        raise error(f"there is no class {value!r}", remedy)
    return index


def _by_index(written: str, names: Sequence[str]) -> int | None:
    """Return the index that is written so, or None if there is no such class."""
    indices = [str(index) for index in range(len(names))]
    return indices.index(written) if written in indices else None


def _by_name(name: str, names: Sequence[str]) -> int | None:
    """Return the index of the class of this name, or of the only like one; None without one."""
    if name in names:
        return list(names).index(name)
    like = [i for i, other in enumerate(names) if by_text(("", other)) == by_text(("", name))]
    if len(like) != 1:
        return None
    warn(f"a class name differs from that of the data in {difference(name, names[like[0]])}")
    return like[0]
