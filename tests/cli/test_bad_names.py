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
from tests.cli.test_main import head

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


# Targets that cannot be used as anything.
TARGETS = [
    *("gone:f", "needs:f", "own.part:f", "..:f", ".own:f", ":f"),
    *("own:absent", "own:constant", "stops:f", "broken:f", "quits:f"),
]
# Targets that cannot be used for one option.
OF_ONE_OPTION = [
    *(("--data", f"own:{name}") for name in ("raises", "leaves", "one_argument", "pair")),
    *(("--data", f"own:{name}") for name in ("generator", "strings", "twice")),
    *(("--model", f"own:{name}") for name in ("raises", "no_arguments", "one_argument")),
    *(("--model", f"own:{name}") for name in ("no_builder", "breaks", "two")),
]


@pytest.mark.parametrize("flag", ["--data", "--model", "--method"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_is_not_there(refused, own, flag, name):
    line = refused("unlearn", *([] if flag == "--data" else TABLE), flag, name)
    assert head(line) == flag
    assert name in line or name.partition(":")[0] in line


@pytest.mark.parametrize(("flag", "name"), OF_ONE_OPTION)
def test_a_target_that_is_of_no_use(refused, own, flag, name):
    line = refused("unlearn", *([] if flag == "--data" else TABLE), flag, name)
    assert head(line) == flag


@pytest.mark.parametrize("flag", ["--data", "--model"])
def test_an_exception_is_named_with_its_place(refused, own, flag):
    line = refused("unlearn", *([] if flag == "--data" else TABLE), flag, "own:raises")
    assert "RuntimeError: no luck (own.py, line 17)" in line


def test_a_data_set_that_tfds_cannot_import_is_refused(refused, monkeypatch):
    def builder(*arguments, **options):
        raise ModuleNotFoundError("No module named 'pycocotools'")

    monkeypatch.setattr("tensorflow_datasets.builder", builder)
    line = refused("unlearn", "--data", "coco")
    assert head(line) == "--data"
    assert "No module named 'pycocotools'" in line


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "..", "", "a b", "a\0", "a\n", "original", "x" * 61, "<b>"]
)
def test_a_method_of_ones_own_needs_a_name_for_tables_and_files(workplace, name):
    method = replace(unlearners.METHODS["nothing"], name=name)
    with pytest.raises(InputError) as caught:
        ltu_jax.unlearn(tiny.table(), method=method)
    assert tiny.argument(caught.value) == "method"
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x", "a\0b\n", "x" * 300, "ü" * 300, ".", "", "a\\b:c"])
def test_a_data_sets_name_cannot_leave_the_folder_of_runs(workplace, monkeypatch, name):
    made = []
    monkeypatch.setattr(pipeline, "carry_out", lambda *a, **options: made.append(a[1].path))
    data = tiny.table(name=name)
    ltu_jax.unlearn(data, tiny.FORGOTTEN, config=tiny.TINY_LTU)
    assert made[0].resolve().parent == workplace / "runs"
    assert [path.name for path in workplace.iterdir()] == ["runs"]
    assert not set(made[0].name) & set("/\\:\0\n")


def test_a_pool_cannot_leave_the_folder_of_pools(workplace):
    plan = tiny.plan(tiny.table(name="../../x"), tiny.FORGOTTEN)
    for kind in ensembles.TYPES:
        folder = ensembles.ensemble_folder(plan, kind, 2, workplace)
        assert folder.resolve().parent == workplace
        assert re.fullmatch(rf"{kind}-2-[0-9a-f]{{16}}", folder.name)


WATCHED = """
import os, sys
from ltu_jax.cli.main import main
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
