"""What the README tells a reader to type works, and what it points at is there."""

import re
import shlex
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro
from flax import linen as nn

import ltu_jax
from experiments.ablations import (
    budget,
    conflicts,
    failure_signatures,
    overlap,
    rho_sweep,
    scheme_check,
    stopping,
)
from experiments.attacks import backdoor, limits, movement, per_example
from experiments.comparison import claims, compare
from experiments.lib import results_table
from experiments.operation import sequential
from experiments.performance import benchmark
from ltu_jax.cli import main as cli
from tests import tiny

EXPERIMENTS = (
    backdoor,
    benchmark,
    budget,
    claims,
    compare,
    conflicts,
    failure_signatures,
    limits,
    movement,
    overlap,
    per_example,
    results_table,
    rho_sweep,
    scheme_check,
    sequential,
    stopping,
)
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    for command in line.split(" && ")
]


def test_the_python_example_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    options = {"config": tiny.TINY_LTU, "epochs": 2, "quiet": True}
    monkeypatch.setattr(ltu_jax, "unlearn", partial(ltu_jax.unlearn, **options))
    (example,) = re.findall(r"```python\n(import ltu_jax\n.*?)```", README, re.DOTALL)
    table = tiny.table()
    names = {
        "x": table.train.inputs,
        "y": table.train.labels,
        "test_x": table.heldout.inputs,
        "test_y": table.heldout.labels,
        "patient_ids": table.train_ids,
        "sites": table.groups["site"],
        "network": nn.Dense(3),
        "variables": nn.Dense(3).init(jax.random.key(0), table.train.inputs),
    }
    exec(example, names)
    page, verdict = capsys.readouterr().out.split(maxsplit=1)
    assert (tmp_path / page).is_file()
    assert "loss attack" in verdict
    assert np.shape(names["logits"]) == (60, 3)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "ltu"], ids=shlex.join)
def test_ltu_takes_the_commands(command, monkeypatch):
    taken = []
    names = ("unlearn", "compare", "pool", "audit", "ledger", "queue", "selfcheck", "list_methods")
    for name in names:
        monkeypatch.setattr(cli, name, lambda *arguments: taken.append(arguments))
    cli.main(command[1:])
    assert len(taken) == 1


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "python"], ids=shlex.join)
def test_the_experiments_take_the_commands(command):
    scripts = {module.__name__.removesuffix(".__main__"): module for module in EXPERIMENTS}
    assert command[1] == "-m"
    tyro.cli(scripts[command[2]].Options, args=command[3:])


def test_every_option_it_names_exists(capsys):
    named = set(re.findall(r"`(--[a-z-]+)", README))
    for command in ("unlearn", "tune", "compare", "pool", "audit", "ledger", "queue", "selfcheck"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert len(named) > 10
    assert named <= known


def test_every_file_it_points_at_is_there():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith(("http", "#"))]
    assert "docs/report.png" in targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
