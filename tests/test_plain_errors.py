"""Messages below the command line name Python arguments; the command line prints flags."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import ltu_jax
from ltu_jax.cli import options
from ltu_jax.cli.flags import flag, in_flags
from ltu_jax.errors import InputError

PACKAGE = Path(ltu_jax.__file__).parent
COMMANDS = (
    *(options.Unlearn, options.Tune, options.Compare, options.Ensemble, options.Audit),
    *(options.Ledger, options.Queue, options.Selfcheck),
)
FLAGS = {entry.name.replace("_", "-") for command in COMMANDS for entry in fields(command)}


def strings(tree):
    """All string literals of a module, except its docstrings."""
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, scopes)
            and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def test_no_message_below_the_command_line_names_a_flag():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "cli":
            continue
        for line, text in strings(ast.parse(path.read_text(encoding="utf-8"))):
            if FLAGS & set(re.findall(r"--([a-z-]+)", text)):
                found.append(f"{path.relative_to(PACKAGE)}:{line}")
    assert found == []


def deletion(**given):
    return options.Unlearn(**given)


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("retain_fraction", deletion(), "--retain-fraction"),
        ("forget", deletion(), "--forget-ids"),
        ("forget", deletion(forget_class=("3",)), "--forget-class"),
        ("run", deletion(), "--run"),
        ("run", options.Audit(Path("RUN")), "RUN"),
        ("run", options.Queue("show", Path("RUN")), "RUN"),
        ("learning_rate", deletion(), None),
        ("trials", deletion(), None),
    ],
)
def test_a_python_name_has_one_flag(name, command, expected):
    assert flag(name, command) == expected


def test_argument_problem_and_remedy_are_in_flags():
    error = InputError("checkpoint", "is old", "give `data_dir`, or leave `learning_rate` alone")
    assert in_flags(error, deletion()) == (
        "--checkpoint: is old; give --data-dir, or leave `learning_rate` alone"
    )
    error = InputError("run", "is unfinished", "finish it with `resume`")
    assert in_flags(error, options.Audit(Path("RUN"))) == (
        "RUN: is unfinished; finish it with ltu unlearn --resume"
    )
    assert in_flags(error, deletion(resume=Path("RUN"))).startswith("--resume: ")
