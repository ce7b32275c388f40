"""The notebooks as a reader runs them on a CPU, in a kernel and a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a reader leaves at its defaults; compiling those would take most of the time of all tests.
DEFAULTS = "config = ltu_jax.LTUConfig()"
SMALL = """
from ltu_jax.ltu.membership import DIVERSE

config = ltu_jax.LTUConfig(
    steps=5, query_sampling=("uniform",), membership=DIVERSE[:2], membership_support=1
)
"""


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_it_is_committed_clean(notebook):
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_runs_on_a_cpu(notebook, tmp_path):
    (config,) = (cell for cell in notebook.cells if DEFAULTS in cell.source)
    config.source = config.source.replace(DEFAULTS, SMALL)
    folder = tmp_path / "work"
    folder.mkdir()
    executed = _execute(notebook, folder / "notebook.ipynb", tmp_path)
    printed = {cell.id: _text(cell) for cell in executed.cells if cell.cell_type == "code"}
    assert "CpuDevice" in printed["devices"]
    for cell in ("table", "class"):
        assert all(name in printed[cell] for name in ("Original", "Second Retrain", "LTU"))
    assert "Retrain" not in printed["ids"]
    assert printed["figures"].count("image/png") == 4
    assert "choose a TPU or GPU" in printed["cifar"]
    assert len(list((folder / "runs").glob("*/report.html"))) == 3


def _execute(notebook, path, home):
    """Run all cells in `path`'s folder, in a process whose warnings are no concern of ours."""
    nbformat.write(notebook, path)
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    settings = {name: str(home / name.lower()) for name in names} | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(home / "compiled"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    program = "from nbclient.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--kernel_name=python3", "--inplace", str(path)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(path, as_version=4)


def _text(cell):
    """Everything that a cell shows, as text; a picture by its type."""
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        shown += [output.get("text", ""), data.get("text/plain", ""), *data]
    return " ".join(shown)
