"""Exported networks come back whole, and a wrong folder is named before anything is read."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.types import Variables


def variables(width=3, state=True):
    return Variables(
        {"dense": {"kernel": jnp.arange(2.0 * width).reshape(2, width), "bias": jnp.ones(width)}},
        {"norm": {"mean": jnp.full(width, 0.5)}} if state else {},
    )


@pytest.mark.parametrize("state", [True, False])
def test_what_is_exported_is_restored(tmp_path, state):
    export(tmp_path / "net", variables(state=state))
    like = jax.tree.map(jnp.zeros_like, variables(state=state))
    restored = restore(tmp_path / "net", like)
    assert jax.tree.structure(restored) == jax.tree.structure(like)
    jax.tree.map(np.testing.assert_array_equal, restored, variables(state=state))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--checkpoint .*nothing is no Orbax checkpoint"):
        restore(tmp_path / "nothing", variables())


def test_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="is no Orbax checkpoint"):
        restore(tmp_path, variables())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (variables(width=4), r"\['params'\]\['dense'\]\['bias'\] has shape \(3,\), expected shape"),
        (variables(state=False), r"\['state'\]\['norm'\]\['mean'\] has shape .* expected nothing"),
    ],
)
def test_another_architecture_is_named(tmp_path, like, message):
    export(tmp_path / "net", variables())
    with pytest.raises(InputError, match=message):
        restore(tmp_path / "net", like)


# Orbax abandons the coroutines of a failed read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_truncated_checkpoint_is_named(tmp_path):
    export(tmp_path / "net", variables())
    arrays = [path for path in (tmp_path / "net").rglob("d/*") if path.is_file()]
    assert arrays
    for path in arrays:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"--checkpoint .*net is damaged"):
        restore(tmp_path / "net", variables())
    gc.collect()  # so that what Orbax abandoned is reported here and not in a later test


def test_an_existing_folder_is_not_overwritten(tmp_path):
    export(tmp_path / "net", variables())
    with pytest.raises(FileExistsError, match="never written over"):
        export(tmp_path / "net", variables(width=4))
    restored = restore(tmp_path / "net", variables())
    jax.tree.map(np.testing.assert_array_equal, restored, variables())
