"""What `mkdocs build` adds to the pages: links into the repository, the help of the commands."""

import os
import re
import subprocess
import sys

SOURCE = "https://github.com/ltu-jax/ltu_jax/blob/main/"


def on_page_markdown(markdown, **_):
    """Point links that leave `docs/` at the repository, and put help texts in their places."""
    markdown = re.sub(r"\]\(\.\./([^)]+)\)", rf"]({SOURCE}\1)", markdown)
    return re.sub(r"<!-- help: ([\w-]+) -->", lambda found: _help(found[1]), markdown)


def _help(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ltu_jax", command, "--help"],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{done.stdout.rstrip()}\n```"
