"""Values of a request found in a column of the data: equal ones first, then like ones.

Equal values have one type and one text. Like values differ in outer spaces, in Unicode form or, in
group columns, in type: 12, 12.0, "12" and "012" are alike, and so are a date and its text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from ltu_jax.data.columns import is_missing
from ltu_jax.errors import few, warn

Key = tuple[str, Any]  # name of the type, value in a form that can be compared

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)
_TIME = r"(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?"
_DATE = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:[T ]{_TIME})?", re.ASCII)
_ZONED = re.compile(rf"\d{{4}}-\d\d-\d\d[T ]{_TIME}(Z|[+-]\d\d:?\d\d)", re.ASCII)


class Match(NamedTuple):
    """What was found of a request.

    Attributes:
      rows: sorted rows of the column that hold a requested value.
      unknown: requested values that no row holds.
      ambiguous: requested values that no row equals, and that are like several different values.
      like: pairs of a requested value and the value of the data that is like it.
      others: requested values that some rows equal, and other rows are only like.
      repeated: number of values that are requested more than once.
    """

    rows: np.ndarray
    unknown: list[Any]
    ambiguous: list[Any]
    like: list[tuple[Any, Any]]
    others: list[Any]
    repeated: int


def match(
    requested: Iterable[Any],
    column: Sequence[Any] | np.ndarray,
    form: Callable[[Key], Key],
    *,
    typed: bool = True,
) -> Match:
    """Find the requested values in a column.

    Args:
      requested: values, as `key` takes them.
      column: `[N]` values of the data; missing ones are skipped.
      form: `by_text` or `by_value`; values of equal form are like each other.
      typed: whether the type of a requested value says anything; in text files all are text.

    >>> match([12, "b", "c"], ["12", "b", "b ", "12"], by_value).rows
    array([0, 1, 3])
    """
    rows_of: dict[Key, list[int]] = {}
    first: dict[Key, Any] = {}
    for row, value in enumerate(column):
        if not is_missing(value):
            found = key(value)
            rows_of.setdefault(found, []).append(row)
            first.setdefault(found, value)
    alike: dict[Key, list[Key]] = {}
    for found in rows_of:
        alike.setdefault(form(found), []).append(found)
    result = Match(np.empty(0, np.int64), [], [], [], [], 0)
    chosen: dict[Key, int] = {}
    for value in requested:
        wanted = key(value)
        candidates = alike.get(form(wanted), [])
        if wanted in rows_of:
            if len(candidates) > 1:
                result.others.append(value)
        elif len(candidates) == 1:
            wanted = candidates[0]
            if typed or text(first[wanted]) != text(value):
                result.like.append((value, first[wanted]))
        else:
            (result.ambiguous if candidates else result.unknown).append(value)
            continue
        chosen[wanted] = chosen.get(wanted, 0) + 1
    rows = [row for wanted in chosen for row in rows_of[wanted]]
    repeated = sum(count > 1 for count in chosen.values())
    return result._replace(rows=np.sort(np.array(rows, np.int64)), repeated=repeated)


def key(value: Any) -> Key:
    """Return the type and the value by which equal values are recognised.

    Raises:
      TypeError: values of this type are not compared.

    >>> key(12), key(np.float32(0.1)), key(np.datetime64("2024-02-01T00:00"))
    (('integers', 12), ('decimals', Decimal('0.1')), ('dates', '2024-02-01'))
    """
    if isinstance(value, str | bytes | UUID):
        return "text", text(value)
    if isinstance(value, bool | np.bool_):
        return "truth values", bool(value)
    if isinstance(value, int | np.integer):
        return "integers", int(value)
    if isinstance(value, float | np.floating | Decimal):
        return "decimals", Decimal(str(value))
    if isinstance(value, date | np.datetime64):
        return "dates", _iso(str(value)) or str(value)
    raise TypeError(f"{type(value).__name__} is not a value of a column")


def text(value: Any) -> str:
    """Return a value as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def by_text(wanted: Key) -> Key:
    """Return the form of an id: without outer spaces, composed (Unicode NFC)."""
    return wanted[0], unicodedata.normalize("NFC", str(wanted[1])).strip()


def by_value(wanted: Key) -> Key:
    """Return the form of a group's value: a number, a date, a truth value or text.

    >>> by_value(("text", " 012.0")) == by_value(("integers", 12))
    True
    """
    kind, value = wanted
    if kind in ("integers", "decimals"):
        return "number", Decimal(value)
    if kind != "text":
        return kind, value
    _, plain = by_text(wanted)
    if _NUMBER.fullmatch(plain):
        return "number", Decimal(plain)
    if plain in ("True", "False"):
        return "truth values", plain == "True"
    day = _iso(plain)
    return ("dates", day) if day else ("text", plain)


def difference(value: Any, found: Any) -> str:
    """Return in what a requested value differs from the one of the data that is like it.

    >>> difference(12, "12"), difference("a ", "a")
    ('type (integers in the request, text in the data)', 'outer spaces')
    """
    (kind, one), (other_kind, other) = key(value), key(found)
    if kind != other_kind:
        return f"type ({kind} in the request, {other_kind} in the data)"
    one, other = str(one), str(other)
    if one.strip() == other.strip():
        return "outer spaces"
    if by_text((kind, one)) != by_text((kind, other)):
        return "the way that they are written"
    same_form = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "Unicode form" if same_form else "Unicode form and outer spaces"


def warn_of_likeness(found: Match, what: str) -> None:
    """Warn of repeated values, and of those that the data write differently."""
    one = what.removesuffix("s")
    if found.repeated:
        count = f"1 {one} is" if found.repeated == 1 else f"{found.repeated} {what} are"
        warn(f"{count} requested more than once; each counts once")
    if found.like:
        differences = list(dict.fromkeys(difference(*pair) for pair in found.like))
        count = (
            f"1 requested {one} differs"
            if len(found.like) == 1
            else (f"{len(found.like)} requested {what} differ")
        )
        warn(
            f"{count} from those of the data in {', '.join(differences)}; they were matched",
            few(value for value, _ in found.like),
        )
    if found.others:
        warn(
            f"some {what} of the data differ from a requested one only in spaces, Unicode form or "
            "type; their examples are not forgotten",
            few(found.others),
        )


def _iso(value: str) -> str | None:
    """Return the ISO form of a date or time, in UTC if it has a zone; None for other text."""
    found = _DATE.fullmatch(value)
    if not found:
        return _in_utc(value) if _ZONED.fullmatch(value) else None
    day, hour, minute, second, fraction = (part or "" for part in found.groups())
    time = f"{hour or '00'}:{minute or '00'}:{second or '00'}.{fraction}".rstrip("0").rstrip(".")
    return day if time == "00:00:00" else f"{day}T{time}"


def _in_utc(value: str) -> str | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    except ValueError:  # such as month 13
        return None
