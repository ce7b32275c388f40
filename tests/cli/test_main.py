"""The command line: every kind of bad input, what a run prints, and help that does not wait."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import pytest

from ltu_jax import unlearners
from ltu_jax.cli.main import main
from ltu_jax.runs import folder as folders
from ltu_jax.training.checkpoint import export
from ltu_jax.types import Variables
from tests import tiny

TABLE = ["--data", "tests.tiny:table"]

USER_MODULE = """
import numpy as np
from flax import nnx
from ltu_jax import from_arrays
from tests.tiny import table

x, y = np.ones((30, 4), np.float32), np.arange(30) % 3
hole = x.copy()
hole[7, 2] = np.nan

def nan(): return hole, y, x, y
def other_shape(): return x, y, x[:, :3], y
def label_below(): return x, y - 1, x, y
def label_above(): return from_arrays((x, y), (x, y + 1), class_names=["a", "b", "c"])
def too_few(): return x, y[:-1], x, y
def nothing(): return None
def wide(num_classes): return lambda rngs: nnx.Linear(6, num_classes + 1, rngs=rngs)
def fits(num_classes): return lambda rngs: nnx.Linear(6, num_classes, rngs=rngs)
"""


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with files of ids, networks and a module of the user's own."""
    files = {
        "unknown.txt": "patient-0001\nnobody\n",
        "none.txt": "\n",
        "all.txt": "\n".join(f"patient-{i:04d}" for i in range(120)),
        "columns.csv": "name,age\npatient-0001,44\n",
        "broken.json": "[1, ",
        "mine.py": USER_MODULE,
        "notes/readme.md": "not a network",
        "taken/report.html": "another run",
        "a_file": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    layer = {"kernel": jnp.zeros([6, 5]), "bias": jnp.zeros(5)}
    export(tmp_path / "other_net", Variables({"Dense_0": layer}, {}))
    monkeypatch.chdir(tmp_path)
    # As for a console script: the working directory is not on the path.
    outside = [entry for entry in sys.path if entry]
    monkeypatch.setattr(sys, "path", outside)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def tiny_method(monkeypatch):
    """The command line has no options for a method: make the default small."""
    method = replace(unlearners.METHODS["ltu"], config=tiny.TINY_LTU)
    monkeypatch.setitem(unlearners.METHODS, "ltu", method)


def head(line):
    """The argument that a printed error names."""
    start, argument = line.split()[:2]
    assert start == "error:"
    return argument.rstrip(":")


def fails(capsys, arguments, command="unlearn"):
    """Exit code and standard error of a command line that must fail and print nothing else."""
    with pytest.raises(SystemExit) as stopped:
        main([command, *arguments])
    shown = capsys.readouterr()
    assert shown.out == ""
    return stopped.value.code, shown.err


# Arguments that are refused, and the flag that the error names.
BAD_INPUT = {
    **{
        f"ids of {file}": (["--forget-ids", file], "--forget-ids")
        for file in (
            *("unknown.txt", "none.txt", "all.txt", "gone.txt", "notes"),
            *("broken.json", "columns.csv"),
        )
    },
    "CSV with another column": (
        ["--forget-ids", "columns.csv", "--forget-id-column", "id"],
        "--forget-ids",
    ),
    "column of a text": (
        ["--forget-ids", "unknown.txt", "--forget-id-column", "id"],
        "--forget-ids",
    ),
    "column alone": (["--forget-id-column", "id"], "--forget-id-column"),
    "class not there": (["--forget-class", "dead"], "--forget-class"),
    "class index too high": (["--forget-class", "3"], "--forget-class"),
    "no class": (["--forget-class"], "--forget-class"),
    "every class": (["--forget-class", "0", "1", "2"], "--forget-class"),
    "group without value": (["--forget-group", "site"], "--forget-group"),
    "group not there": (["--forget-group", "town=north"], "--forget-group"),
    "group value not there": (["--forget-group", "site=east"], "--forget-group"),
    **{
        f"forget fraction {value}": (["--forget-fraction", value], "--forget-fraction")
        for value in ("0", "1", "-0.1", "1.5", "nan")
    },
    **{
        f"retain fraction {value}": (["--retain-fraction", value], "--retain-fraction")
        for value in ("0", "1.5", "nan", "0.1")
    },
    "two requests": (["--forget-class", "1", "--forget-fraction", "0.1"], "--forget-class"),
    **{
        f"data {name}": (["--data", name], "--data")
        for name in (
            *("no_such_set", "gone:f", "mine:nan", "mine:other_shape", "mine:label_below"),
            *("mine:label_above", "mine:too_few", "mine:nothing"),
        )
    },
    "no data folder": (["--data", "cifar10", "--data-dir", "gone"], "--data-dir"),
    "method unknown": (["--method", "magic"], "--method"),
    "method module unknown": (["--method", "gone:METHOD"], "--method"),
    "not a method": (["--method", "mine:wide"], "--method"),
    "options missing": (["--config", "gone.json"], "--config"),
    "model unknown": (["--model", "gpt"], "--model"),
    "model module unknown": (["--model", "gone:f"], "--model"),
    "model for images": (["--model", "cnn"], "--model"),
    "model too wide": (["--model", "mine:wide"], "--model"),
    **{
        f"checkpoint {name}": (["--checkpoint", name], "--checkpoint")
        for name in ("gone", "notes", "a_file", "other_net")
    },
    "epochs": (["--epochs", "0"], "--epochs"),
    "seed below 0": (["--seed", "-1"], "--seed"),
    "seed too large": (["--seed", str(2**70)], "--seed"),
    "train size too small": (["--train-size", "5"], "--train-size"),
    "train size too large": (["--train-size", "121"], "--train-size"),
    "folder taken": (["--out", "taken"], "--out"),
    "folder below a file": (["--out", "a_file/run"], "--out"),
    "folder is a file": (["--out", "a_file"], "--out"),
}


@pytest.mark.parametrize(("arguments", "flag"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_line_and_nothing_is_written(workplace, capsys, arguments, flag):
    before = tree(workplace)
    out = [] if "--out" in arguments else ["--out", "run"]
    data = [] if "--data" in arguments else TABLE
    code, text = fails(capsys, [*data, *arguments, *out])
    assert code == 2
    assert head(text) == flag
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert tree(workplace) == before


@pytest.mark.parametrize(
    ("command", "arguments", "flag"),
    [
        ("tune", ["--trials", "0"], "--trials"),
        ("tune", ["--select", "oracle", "--reference", "none"], "--select"),
        ("compare", ["--scenarios", "all"], "--scenarios"),
        ("compare", ["--select-seed", "2"], "--select-seed"),
    ],
)
def test_bad_choices_are_refused_at_once(workplace, capsys, command, arguments, flag):
    before = tree(workplace)
    code, text = fails(capsys, [*TABLE, "--out", "run", *arguments], command)
    assert (code, text.count("\n")) == (2, 1)
    assert head(text) == flag
    assert tree(workplace) == before


def test_without_out_bad_input_leaves_no_runs_folder(workplace, capsys):
    before = tree(workplace)
    code, _ = fails(capsys, [*TABLE, "--forget-class", "dead"])
    assert code == 2
    assert tree(workplace) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder closed to root too")
def test_an_unwritable_folder_is_named(workplace, capsys):
    before = tree(workplace)
    code, text = fails(capsys, [*TABLE, "--out", "/proc/ltu/run"])
    assert code == 2
    assert head(text) == "--out"
    assert "/proc" in text
    assert tree(workplace) == before


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["unlearn", "--foo"], "--foo"),
        (["unlearn", "--seed", "x"], "--seed"),
        (["unlearn", "--epochs", "2.5"], "--epochs"),
        (["unlearn", "--reference", "all"], "--reference"),
        (["forget"], "forget"),
        ([], "unlearn"),
    ],
)
def test_what_tyro_refuses_exits_with_2(workplace, capsys, arguments, fragment):
    before = tree(workplace)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert fragment in capsys.readouterr().err
    assert tree(workplace) == before


SMALL_RUN = [*TABLE, "--model", "mine:fits", "--epochs", "1", "--reference", "none"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_method")
def test_a_quiet_run_prints_the_table_and_where_the_results_are(workplace, capsys):
    arguments = [*SMALL_RUN, "--forget-class", "ill", "--quiet"]
    main(["unlearn", *arguments])
    shown = capsys.readouterr()
    assert shown.err == ""
    for text in ("UA", "RA", "TA", "MIA", "Original", "LTU"):
        assert text in shown.out
    *_, checkpoint, report = shown.out.splitlines()
    assert checkpoint.split() == ["Unlearned", "checkpoint:", "runs/table-ltu-001/unlearned"]
    assert report.split() == ["Report:", "runs/table-ltu-001/report.html"]
    content = json.loads(Path("runs/table-ltu-001/report.json").read_text())
    assert content["run"]["command"] == f"ltu unlearn {' '.join(arguments)}"
    assert content["run"]["sizes"]["forget"] == 40
    assert content["request"] == {"type": "class", "value": ["ill"]}
    assert content["auc_band"] is None


@pytest.mark.usefixtures("tiny_method")
def test_a_run_for_machines_prints_json_alone(workplace, capsys):
    main(["unlearn", *SMALL_RUN, "--forget-class", "ill", "--log", "json"])
    shown = capsys.readouterr()
    assert shown.err == ""
    *events, result = map(json.loads, shown.out.splitlines())
    assert {event["event"] for event in events} == {"phase", "step"}
    assert result["event"] == "result"
    assert result["report"] == "runs/table-ltu-001/report.html"
    assert [row["model"] for row in result["rows"]] == ["original", "ltu"]


@pytest.mark.usefixtures("tiny_method")
def test_a_run_shows_its_phases_and_numbers_its_folder(workplace, capsys):
    (workplace / "runs" / "table-ltu-001").mkdir(parents=True)
    main(["unlearn", *SMALL_RUN, "--forget-class", "ill"])
    shown = capsys.readouterr()
    assert "runs/table-ltu-002/report.html" in shown.out
    for phase in ("train original", "unlearn (ltu)", "audit"):
        assert phase in shown.err


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_method")
def test_a_run_that_diverges_exits_with_1_and_one_line(workplace, capsys, monkeypatch):
    method = unlearners.METHODS["ltu"]
    absurd = replace(method.config, learning_rate=1e38, max_update_norm=1e38)
    monkeypatch.setitem(unlearners.METHODS, "ltu", replace(method, config=absurd))
    code, text = fails(capsys, [*SMALL_RUN, "--quiet"])
    assert code == 1
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert "became" in text
    assert not Path("runs/table-ltu-001/report.html").exists()


def test_a_full_disk_exits_with_1_and_one_line(workplace, capsys, monkeypatch):
    def export(folder, variables):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(folders, "export", export)
    code, text = fails(capsys, [*TABLE, "--epochs", "1", "--out", "run", "--quiet"])
    assert code == 1
    assert text == "error: [Errno 28] No space left on device: 'run/running/.part-original'\n"


def test_a_comparison_prints_its_table_and_goes_on(workplace, capsys):
    options = ["--methods", "finetune", "--scenarios", "class", "--train-seeds", "0", "--epochs"]
    command = ["compare", *TABLE, "--out", "all", "--select", "default", *options, "1"]
    main(command)
    first = capsys.readouterr().out
    assert "class, seed 0: finetune" in first
    assert "one class forgotten, 1 training seed, default options" in " ".join(first.split())
    left = {path.name for path in (workplace / "all").iterdir()}
    assert left >= {"compare.json", "table.md", "table.csv", "pareto_class.png", "results"}
    main(command)
    assert "class, seed 0: finetune" not in capsys.readouterr().out


def test_methods_lists_every_method(capsys):
    main(["methods"])
    shown = capsys.readouterr().out
    for name in unlearners.METHODS:
        assert name in shown
    assert "2407.10494" in shown


HELP = """
import sys
from ltu_jax.cli.main import main
for arguments in ([], ["unlearn"], ["tune"], ["compare"], ["methods"]):
    try:
        main([*arguments, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0, stopped.code
heavy = {"jax", "flax", "numpy", "sklearn", "matplotlib", "tensorflow_datasets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def run_python(*arguments):
    environment = {**os.environ, "COLUMNS": "80"}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=root
    )


def test_help_is_readable_and_waits_for_no_heavy_import():
    done = run_python("-c", HELP)
    assert done.returncode == 0, done.stderr
    for text in ("ids in, an unlearned checkpoint", "methods", "ltu unlearn --forget-class 3"):
        assert text in done.stdout
    for flag in (
        "--forget-ids FILE",
        "--forget-group COLUMN=VALUE",
        "--checkpoint DIR",
        "--seed N",
        "--trials N",
        "--train-seeds N [N ...]",
    ):
        assert flag in done.stdout
    for noise in ("{None}", "(default: None)", "--no-quiet"):
        assert noise not in done.stdout
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("usage: ltu [-h] {unlearn")) <= 80


def test_the_module_is_the_console_command():
    done = run_python("-m", "ltu_jax", "unlearn", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ltu unlearn")
    refused = run_python("-m", "ltu_jax", "unlearn", "--forget-group", "site")
    assert refused.returncode == 2
    assert head(refused.stderr) == "--forget-group"


def test_the_version_is_printed(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("ltu-jax ")
