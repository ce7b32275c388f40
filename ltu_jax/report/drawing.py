"""Matplotlib with its own defaults, whatever the user's settings, and texts that its font has."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

MOST_LISTED = 20  # names in a caption
_log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def default_style() -> Iterator[None]:
    """Draw with Matplotlib's defaults; the user's settings return afterwards."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def drawn(draw: Callable[[], T], name: str) -> T | None:
    """Return what `draw` returns, in the default style; None, with a warning, if that fails.

    A figure that cannot be drawn must not cost the report.
    """
    try:
        with default_style():
            return draw()
    except Exception as error:  # whatever Matplotlib, its fonts and its files may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        _log.warning("figure %s is left out of the report: %s", name, reason)
        return None


def is_drawable(text: str) -> bool:
    """Return whether the font of the figures shows a text as it is written.

    Scripts that are written from right to left, or whose letters join, are not laid out.
    """
    glyphs = _glyphs()
    composed = unicodedata.normalize("NFC", text)
    return all(ord(c) in glyphs and _stands_alone(c) for c in composed)


def drawable_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Return names that the figures can show, and a sentence on them.

    If one cannot be shown, all are replaced by numbers, and the sentence lists the names.

    >>> drawable_names(["cat", "dog"])
    (['cat', 'dog'], '')
    """
    if all(map(is_drawable, names)):
        return list(names), ""
    listed = ", ".join(f"{number} is {name}" for number, name in enumerate(names[:MOST_LISTED]))
    more = "" if len(names) <= MOST_LISTED else ", and so on in the order of the class names"
    return [str(i) for i in range(len(names))], f" Classes by number: {listed}{more}."


def _stands_alone(character: str) -> bool:
    joins = unicodedata.category(character)[0] in "CM"
    return not joins and unicodedata.bidirectional(character) not in ("R", "AL", "AN")


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """Return the characters of Matplotlib's own font."""
    _matplotlib()
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _matplotlib() -> Any:
    """Import Matplotlib, which refuses a backend that is not installed here."""
    try:
        import matplotlib
    except (ValueError, AttributeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]  # imported halfway
        backend = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend
    return matplotlib
