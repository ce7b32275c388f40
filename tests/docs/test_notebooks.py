"""The notebooks as a reader runs them on a CPU, in a kernel and a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a reader leaves at its defaults, and what takes its place here: compiling those would take
# most of the time of all tests.
CONFIG = "config = ltu_jax.LTUConfig()"
SMALL = """
from ltu_jax.unlearners.ltu import DIVERSE, Objective

config = ltu_jax.LTUConfig(
    steps=5, query_sampling=("uniform",), objective=Objective(specs=DIVERSE[:2], support=1)
)
"""
MOST_BYTES = 400_000
FAST = {CONFIG: SMALL, "NETWORKS = 32": "NETWORKS = 8", "EPOCHS = None": "EPOCHS = 2"}


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def only(name):
    """Run a test on one notebook, which takes a minute."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    mark = pytest.mark.parametrize("path", [path], ids=lambda path: path.stem)
    return lambda test: pytest.mark.docs(mark(test))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_read_where_it_lies(notebook, path):
    """Every cell was executed in order; outputs are small, without warnings or local paths."""
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
    shown = " ".join(map(_text, code))
    assert "widget" not in shown
    assert str(ROOT) not in shown
    assert "/tmp/" not in shown
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS[:2], ids=lambda path: path.stem)
def test_a_result_is_shown_as_a_table_with_its_verdict(notebook):
    pages = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert any("Second Retrain" in page and "loss attack" in page for page in pages)


@pytest.fixture
def executed(notebook, tmp_path):
    """What each cell of a notebook shows, by its id, and the folder in which it was run."""
    changed = 0
    for cell in notebook.cells:
        for slow, fast in FAST.items():
            changed += slow in cell.source
            cell.source = cell.source.replace(slow, fast)
    assert changed
    folder = tmp_path / "work"
    folder.mkdir()
    done = _execute(notebook, folder / "notebook.ipynb", tmp_path)
    return {cell.id: _text(cell) for cell in done.cells if cell.cell_type == "code"}, folder


@only("01_quickstart_colab_tpu")
def test_the_quickstart_runs_on_a_cpu(executed):
    printed, folder = executed
    assert "CpuDevice" in printed["devices"]
    for cell in ("table", "class"):
        assert all(name in printed[cell] for name in ("Original", "Second Retrain", "LTU"))
        assert "text/html" in printed[cell]
    assert "Second Retrain" not in printed["ids"]
    assert printed["figures"].count("image/png") == 4
    assert "choose a TPU or GPU" in printed["cifar"]
    assert len(list((folder / "runs").glob("*/report.html"))) == 3


@only("02_bring_your_own_model")
def test_ones_own_network_forgets_twice(executed):
    printed, _ = executed
    assert "Second Retrain" in printed["unlearn"]
    assert "accuracy on test data: 0.9" in printed["back"]
    assert "refused:" in printed["next"]


@only("03_read_an_audit")
def test_an_audit_is_made_and_read(executed):
    printed, _ = executed
    assert "xact unlearning" in printed["verdict"]
    assert printed["power"].count("image/png") == 2
    assert "shadow_retrain" in printed["power-numbers"]
    assert "worst 5 %" in printed["worst"]
    assert "detectable" in printed["much"]
    assert "Legacy attacks" in printed["legacy"]


@only("04_inside_ltu")
def test_the_parts_of_ltu_are_drawn(executed):
    printed, _ = executed
    for cell in ("meta", "harmony", "run", "scores"):
        assert printed[cell].count("image/png") == 1
    assert "two-way         with remember +" in printed["harmony"]
    assert "original: mean log-odds: forget set" in printed["scores"]


def _execute(notebook, path, home):
    """Run all cells in `path`'s folder, in a process whose warnings are no concern of ours."""
    nbformat.write(notebook, path)
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    settings = {name: str(home / name.lower()) for name in names} | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
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
