"""Output to terminals of any width and encoding, and to readers that go away."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import IO, Any, cast

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

NAME_WIDTH = 10  # characters below which a wrapped name is not readable
_PLAIN = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{NO-BREAK SPACE}": " ",
    "\N{GREEK SMALL LETTER EPSILON}": "epsilon",
}


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks: by plain characters, or by an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    shown = "".join(_PLAIN.get(one) or ascii(one)[1:-1] for one in lost)
    return shown, error.end


codecs.register_error("ltu_plain", _plain_characters)


def accept_any_text() -> None:
    """Have stdout and stderr write any text in their encoding, with plain characters if need be."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ltu_plain")


def is_unicode(stream: IO[str] | None = None) -> bool:
    """Return whether a stream, by default stdout, can show every character."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().replace("_", "-").startswith("utf")


def write_line(text: str, stream: IO[str] | None = None) -> None:
    """Write a line to a stream, by default stdout; a reader that has gone away is no failure."""
    target = cast(IO[str], stream or sys.stdout)
    try:
        print(text, file=target, flush=True)
    except OSError:
        discard(target)


def discard(stream: IO[str]) -> None:
    """Let later output of a stream, whose reader or disk is gone, go nowhere."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return  # not a stream of the system
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


class Terminal(Console):
    """A console that never cuts a number, and goes on when its reader has gone away."""

    def on_broken_pipe(self) -> None:
        """Let later output go nowhere."""
        discard(cast(IO[str], self.file))

    def show(self, table: Table) -> None:
        """Print a table; names wrap, and columns are left out from the right if need be."""
        left_out = fit(table, self)
        width, self.width = self.width, max(self.width, _needed(table, self))
        self.print(table)
        self.width = width
        if left_out:
            self.print(f"Not shown at this width: {', '.join(left_out)}.", highlight=False)


def fit(table: Table, console: Console) -> list[str]:
    """Leave out columns of a table until no number is cut; return their headers.

    The first column holds names, which wrap. The last columns are left out first.
    """
    first, left_out = table.columns[0], []
    first.no_wrap, first.overflow = False, "fold"
    for column in table.columns[1:]:
        column.no_wrap = column.no_wrap or _width(column, console) <= NAME_WIDTH
    while len(table.columns) > 2 and _needed(table, console) > console.width:
        left_out.insert(0, " ".join(_header(table.columns.pop()).split()))
    table.width = None if table.width is None else min(table.width, console.width)
    return left_out


def _needed(table: Table, console: Console) -> int:
    """Return the width below which a number or a word is cut."""
    widths = [min(_width(table.columns[0], console), NAME_WIDTH)]
    for column in table.columns[1:]:
        widths.append(_width(column, console) if column.no_wrap else NAME_WIDTH)
    _, right, _, left = table.padding
    between = max(left, right) if table.collapse_padding else left + right
    edges = left + right if table.pad_edge else 0
    borders = 0 if table.box is None else len(widths) - 1 + 2 * table.show_edge
    return sum(widths) + (len(widths) - 1) * between + edges + borders


def _width(column: Column, console: Console) -> int:
    cells: list[Any] = [column.header, *column.cells]
    return max(Measurement.get(console, console.options, cell).maximum for cell in cells)


def _header(column: Column) -> str:
    return getattr(column.header, "plain", None) or str(column.header)
