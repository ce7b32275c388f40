"""The documentation: examples run, commands exist, links within it lead somewhere."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest

from ltu_jax.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TOP = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "ltu_jax").rglob("*.py"))
    if re.search(r"^\s*>>> (?!.*SKIP)", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def _commands():
    for page in PAGES:
        blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in "\n".join(blocks).splitlines():
            yield from (shlex.split(part, comments=True) for part in line.split(" && "))


@pytest.mark.parametrize("command", [c for c in _commands() if c[:1] == ["ltu"]], ids=shlex.join)
def test_ltu_takes_the_commands(command, monkeypatch):
    taken = []
    for name in ("unlearn", "compare", "pool", "audit", "selfcheck", "list_methods"):
        monkeypatch.setattr(cli, name, lambda *arguments: taken.append(arguments))
    cli.main(command[1:])
    assert len(taken) == 1


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [t.partition("#")[0] for t in targets if not t.startswith(("http", "#"))]
    assert [name for name in files if not (page.parent / name).exists()] == []


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name not in menu] == []
