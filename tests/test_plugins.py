"""Objects of the user's modules: where they are looked for, and names that are refused."""

import sys

import pytest

from ltu_jax.plugins import import_function
from tests.refusals import refused


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that is not on the path; modules imported in the test are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("cells.py:read", "cells:read"),
        ("./cells.py:read", "cells:read"),
        ("src/data/cells.py:read", "cells:read and run from src/data"),
        ("src\\\\cells.py:read", "cells:read and run from src"),
        ("src/cells:read", "cells:read and run from src"),
    ],
)
def test_a_path_is_answered_with_the_modules_name(folder, name, spelling):
    with refused("data", name, f"write {spelling}"):
        import_function(name, "data")


@pytest.mark.parametrize("name", ["this", "antigravity", "cells"])
def test_the_working_directory_comes_first(folder, name):
    """Modules of the standard library have the first two names."""
    (folder / f"{name}.py").write_text("import helper_of_cells as h\ndef read(): return h.X")
    (folder / "helper_of_cells.py").write_text("X = 'mine'")
    before = list(sys.path)
    assert import_function(f"{name}:read", "data")() == "mine"
    assert sys.path == [*before, str(folder)]


def test_a_module_of_the_same_name_is_named_by_its_file(folder):
    import json

    (folder / "json.py").write_text("def read(): return 'mine'")
    with refused("data", json.__file__, "'read'"):
        import_function("json:read", "data")
