"""A small signed run, and its keys."""

import shutil
from typing import NamedTuple

import pytest

from ltu_jax.runs.evidence import make_key, sign


class Signed(NamedTuple):
    """The folder of a run, and the files of its keys."""

    run: object
    private: object
    public: object


@pytest.fixture(scope="session")
def signed_once(small_run, tmp_path_factory):
    run = small_run(method="finetune", config=None, epochs=1, reference="none").folder
    private, public = make_key(tmp_path_factory.mktemp("keys") / "key")
    sign(run, private)
    return Signed(run, private, public)


@pytest.fixture
def signed(signed_once, tmp_path):
    """A copy that a test may change."""
    return signed_once._replace(run=shutil.copytree(signed_once.run, tmp_path / "run"))
