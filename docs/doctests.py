"""Examples in docstrings as code: the Google style has them as text."""

import re

from griffe import Extension

# A prompt with all that follows it at its indent, up to an empty line.
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)


class Doctests(Extension):
    """Put every example between fences."""

    def on_object(self, *, obj, **_):
        """Rewrite the docstring of one object."""
        if obj.docstring and not obj.is_alias:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(found: re.Match) -> str:
    return f"{found[1]}```pycon\n{found[0]}\n{found[1]}```"
