"""Names of the user's own: modules, functions, methods, data sets; none does more than it says."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ltu_jax
from ltu_jax import unlearners
from ltu_jax.errors import InputError
from ltu_jax.runs import ensembles, pipeline
from tests import tiny

TABLE = ["--data", "tests.tiny:table"]

OWN = """
import flax.linen as nn
import numpy as np
from ltu_jax import from_arrays

x, y = np.ones((30, 4), np.float32), np.arange(30) % 3
constant = 3

class Breaks(nn.Module):
    def __call__(self, inputs):
        raise RuntimeError("inside the network")

class Two(nn.Module):
    def __call__(self, inputs):
        return inputs, inputs

def raises(*arguments): raise RuntimeError("no\\nluck")
def leaves(*arguments): raise SystemExit(0)
def pair(): return x, y
def generator(): yield x
def strings(): return x, np.array(["a"] * 30), x, y
def twice(): return from_arrays((x, y), (x, y), ids=["a"] * 30)
def no_arguments(): return x, y, x, y
def one_argument(number): return None
def breaks(classes): return Breaks()
def two(classes): return Two()
def no_module(classes): return lambda rngs: 3
def no_builder(classes): return lambda rngs: 1 / 0
"""

FILES = {
    "own.py": OWN,
    "stops.py": "raise RuntimeError('at import')",
    "broken.py": "def f(:",
    "needs.py": "import no_such_module_at_all",
    "quits.py": "raise SystemExit(0)",
}


@pytest.fixture
def own(workplace):
    """Modules of the user's own, some of which cannot even be imported."""
    for name, text in FILES.items():
        (workplace / name).write_text(text)
    yield
    for name in ("own", "stops", "broken", "needs", "quits"):
        sys.modules.pop(name, None)


# What `package.module:object` may stand for that is of no use, and what the line must say.
TARGETS = [
    ("gone:f", "cannot import 'gone'", "install it"),
    ("needs:f", "no_such_module_at_all", "install it"),
    ("own.part:f", "'own' is not a package", "install it"),
    ("..:f", "cannot import '..'", "install it"),
    (".own:f", "cannot import '.own'", "install it"),
    (":f", "cannot import ''", "install it"),
    ("own:absent", "'own' has no", "name one that it has"),
    ("own:constant", "'own' has no", "name one that it has"),
    ("stops:f", "raised RuntimeError: at import (stops.py, line 1)", "mend it there"),
    ("broken:f", "raised SyntaxError: invalid syntax (broken.py, line 1)", "mend it there"),
    ("quits:f", "raised SystemExit", "mend it there"),
]
OF_ONE_KIND = [
    ("--data", "own:raises", "raised RuntimeError: no luck (own.py, line 17)", "mend it there"),
    ("--data", "own:leaves", "raised SystemExit", "mend it there"),
    ("--data", "own:one_argument", "missing 1 required positional argument", "mend it there"),
    ("--data", "own:pair", "returned a tuple", "return a Dataset"),
    ("--data", "own:generator", "returned a generator", "return a Dataset"),
    ("--data", "own:strings", "labels are <U1", "pass a one-dimensional array of integers"),
    ("--data", "own:twice", "id 'a' occurs more than once", "make ids unique"),
    ("--model", "own:raises", "raised RuntimeError: no luck (own.py, line 17)", "mend it there"),
    ("--model", "own:no_arguments", "takes 0 positional arguments", "mend it there"),
    ("--model", "own:one_argument", "returned a NoneType", "return a types.Model"),
    ("--model", "own:no_builder", "raised ZeroDivisionError", "mend it there"),
    ("--model", "own:breaks", "RuntimeError: inside the network", "give one that does"),
    ("--model", "own:two", "answers one example with a tuple", "needs [1, 3]"),
]


@pytest.mark.parametrize("flag", ["--data", "--model", "--method"])
@pytest.mark.parametrize(("name", "problem", "remedy"), TARGETS)
def test_a_target_that_is_not_there(refused, own, flag, name, problem, remedy):
    line = refused("unlearn", *([] if flag == "--data" else TABLE), flag, name)
    assert f"{flag} {name}: " in line
    assert problem in line
    assert remedy in line


@pytest.mark.parametrize(("flag", "name", "problem", "remedy"), OF_ONE_KIND)
def test_a_target_that_is_of_no_use(refused, own, flag, name, problem, remedy):
    line = refused("unlearn", *([] if flag == "--data" else TABLE), flag, name)
    assert line.startswith(f"error: {flag} {name}: ")
    assert problem in line
    assert remedy in line


def test_a_data_set_that_tfds_cannot_import_is_refused(refused, monkeypatch):
    def builder(*arguments, **options):
        raise ModuleNotFoundError("No module named 'pycocotools'")

    monkeypatch.setattr("tensorflow_datasets.builder", builder)
    line = refused("unlearn", "--data", "coco")
    assert line.startswith("error: --data coco: ")
    assert "(No module named 'pycocotools'); see tensorflow.org/datasets/catalog" in line


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "..", "", "a b", "a\0", "a\n", "original", "x" * 61, "<b>"]
)
def test_a_method_of_ones_own_needs_a_name_for_tables_and_files(workplace, name):
    method = replace(unlearners.METHODS["nothing"], name=name)
    with pytest.raises(InputError, match=r"--method .*is no name for a method; give"):
        ltu_jax.unlearn(tiny.table(), method=method)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x", "a\0b\n", "x" * 300, "ü" * 300, ".", "", "a\\b:c"])
def test_a_data_sets_name_cannot_leave_the_folder_of_runs(workplace, monkeypatch, name):
    made = []
    monkeypatch.setattr(pipeline, "carry_out", lambda *a, **options: made.append(a[1]))
    data = tiny.table(name=name)
    ltu_jax.unlearn(data, tiny.FORGOTTEN, config=tiny.TINY_LTU)
    assert made[0].resolve().parent == workplace / "runs"
    assert [path.name for path in workplace.iterdir()] == ["runs"]
    assert not set(made[0].name) & set("/\\:\0\n")


def test_a_pool_cannot_leave_the_folder_of_pools(workplace):
    plan = tiny.plan(
        tiny.table(name="../../x"),
        ltu_jax.by_ids(tiny.FORGOTTEN),
        **dict.fromkeys(("checkpoint", "recipe", "epochs", "data_dir", "train_size", "model")),
        method="nothing",
        config=None,
        retain_fraction=0.3,
        reference="none",
        seed=0,
    )
    for kind in ensembles.TYPES:
        folder = ensembles.ensemble_folder(plan, kind, 2, workplace)
        assert folder.resolve().parent == workplace
        assert re.fullmatch(rf"{kind}-2-[0-9a-f]{{16}}", folder.name)


WATCHED = """
import os, sys
from ltu_jax.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
here = os.getcwd()
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print("users:", [name for name, file in files.items() if file.startswith(here)])
"""


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (["methods"], []),
        (["--help"], []),
        (["unlearn", "--data", "users_own:f"], ["users_own"]),
    ],
)
def test_a_module_of_the_users_is_imported_only_when_named(tmp_path, arguments, imported):
    for name in ("users_own", "methods", "digits"):
        (tmp_path / f"{name}.py").write_text("f = None")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.splitlines()[-1] == f"users: {imported}", done.stderr
