"""Checkpoints are written and read under every name that the system allows."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.training.checkpoint import load_state, restore, save_checkpoint, save_state
from ltu_jax.training.orbax_paths import is_plain
from ltu_jax.types import Variables

NAMES = ["run [final](1)", "what?", "star*", "a\\b\\c", "[!x]", "100% #1; $HOME", "-out", "实验\n2"]
VARIABLES = Variables({"kernel": jnp.arange(6.0).reshape(2, 3)}, {})


@pytest.fixture(params=NAMES)
def folder(request, tmp_path, monkeypatch):
    """Return a folder of an odd name; it is also the working directory."""
    (tmp_path / request.param).mkdir()
    monkeypatch.chdir(tmp_path / request.param)
    return tmp_path / request.param


def test_a_checkpoint_is_whole_and_alone_in_its_folder(folder):
    name = folder.name
    save_checkpoint(name, VARIABLES)
    np.testing.assert_array_equal(
        restore(folder / name, VARIABLES).params["kernel"], VARIABLES.params["kernel"]
    )
    assert os.listdir(folder) == [name]


def test_a_state_is_whole_and_alone_in_its_folder(folder):
    save_state(folder / "1", {"x": np.arange(3)}, {"config": "c"})
    assert load_state(folder / "1", "c")[0]["x"].tolist() == [0, 1, 2]
    assert os.listdir(folder) == ["1"]


def test_a_sibling_whose_name_fits_the_pattern_is_not_touched(tmp_path):
    for name in ("aXb", "a*b"):
        save_checkpoint(tmp_path / name / "model", VARIABLES)
    assert sorted(os.listdir(tmp_path / "aXb")) == ["model"]
    assert not is_plain(tmp_path / "a*b")
