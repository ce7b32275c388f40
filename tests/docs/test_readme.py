"""The README: its Python example runs, its two commands are there, and it stays short."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from flax import linen as nn

import ltu_jax
from experiments.lib import results_table
from tests import tiny

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    options = {"config": tiny.TINY_LTU, "epochs": 2, "quiet": True}
    monkeypatch.setattr(ltu_jax, "unlearn", partial(ltu_jax.unlearn, **options))
    (example,) = re.findall(r"```python\n(import ltu_jax\n.*?)```", README, re.DOTALL)
    table = tiny.table()
    # Least squares on the training set: a model that is right, as a reader's is.
    inputs = np.pad(table.train.inputs, ((0, 0), (0, 1)), constant_values=1.0)
    weights = np.linalg.lstsq(inputs, np.eye(3, dtype=np.float32)[table.train.labels])[0]
    names = {
        "x": table.train.inputs,
        "y": table.train.labels,
        "test_x": table.heldout.inputs,
        "test_y": table.heldout.labels,
        "patient_ids": table.train_ids,
        "sites": table.groups["site"],
        "network": nn.Dense(3),
        "variables": {"params": {"kernel": weights[:-1], "bias": weights[-1]}},
    }
    exec(example, names)
    page, verdict = capsys.readouterr().out.split(maxsplit=1)
    assert (tmp_path / page).is_file()
    assert "loss attack" in verdict
    assert np.shape(names["logits"]) == (60, 3)


def test_it_is_short():
    assert len(README.splitlines()) <= 140
    assert README.count("\n|:--") == 2  # one table of results, one of pages


def test_its_results_are_those_of_the_result_files():
    (block,) = (block for block in results_table.BLOCKS if block.path.name == "README.md")
    assert results_table.tables(block) in README
