"""The documentation: examples run, commands exist, links within it lead somewhere."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from experiments.lib import study

# The module; `ltu_jax.cli.main` is the function.
cli = importlib.import_module("ltu_jax.cli.main")
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TOP = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")]
EXPERIMENTS = ROOT / "experiments"
# The functions that the commands of `ltu` call, and the names of the commands.
COMMANDS = {
    "unlearn": "unlearn",
    "compare": "compare",
    "ensemble": "ensemble",
    "audit": "audit",
    "export": "export",
    "ledger": "ledger",
    "queue": "queue",
    "verify": "verify",
    "keygen": "keygen",
    "forget_files": "forget-files",
    "selfcheck": "selfcheck",
    "list_methods": "methods",
}
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


def _commands(program):
    """Yield the command lines of a program in the code blocks of all pages, split in words."""
    for page in [*PAGES, *TOP]:
        blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in "\n".join(blocks).splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                if words[:1] == [program]:
                    yield words


@pytest.mark.parametrize("command", list(_commands("ltu")), ids=shlex.join)
def test_ltu_takes_the_commands(command, monkeypatch):
    taken = []
    for name in COMMANDS:
        monkeypatch.setattr(cli, name, lambda *arguments: taken.append(arguments))
    cli.main(command[1:])
    assert len(taken) == 1


def _experiments():
    """Return the commands in the table of experiments/README.md, each as words."""
    rows = (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [row.split("|")[2] for row in rows if row.startswith("| ")][1:]  # below the head
    return [shlex.split(one) for cell in commands for one in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.experiments
@pytest.mark.parametrize("command", _experiments(), ids=shlex.join)
def test_experiments_take_the_commands(command):
    module = importlib.import_module(f"experiments.{command[0]}")
    tyro.cli(getattr(module, "Options", study.Options), args=command[1:])


def test_every_option_that_a_page_names_exists(capsys):
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md"])
    for command in COMMANDS.values():
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = set(re.findall(r"`(--[a-z-]+)", text))
    assert named <= known | {"--parts", "--quick", "--add"}


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [t.partition("#")[0] for t in targets if not t.startswith(("http", "#"))]
    assert [name for name in files if not (page.parent / name).exists()] == []


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]
    assert [name for name in names if f": {name}" not in menu] == []
