"""One small deletion, run once and looked at by many tests."""

import gc
import os
import shutil
import sys
import tempfile

# Tests compile many small programs and run each for a moment. Unoptimised ones are there sooner,
# and what a worker has compiled is kept for its other tests and the processes they start. It is not
# kept for other workers: jax would lock the folder and list all of it for each program it adds.
# LTU_TEST_CACHE names a folder to keep them in for later runs.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("LTU_TEST_CACHE")
    or tempfile.mkdtemp(prefix="programs-"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
}

import hypothesis
import pytest

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.runs import ensembles, pipeline
from ltu_jax.runs.comparison import cache
from tests import tiny


def pytest_configure():
    # Tracing makes many objects; looking for cycles among them takes a tenth of the time.
    gc.set_threshold(100_000, 50, 100)
    # A busy machine makes no example wrong.
    hypothesis.settings.register_profile("tests", deadline=None)
    hypothesis.settings.load_profile("tests")


def pytest_unconfigure():
    if "LTU_TEST_CACHE" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"])


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory in which nothing can be trained or unlearned."""

    def compute(*arguments, **options):
        raise AssertionError("bad input has reached the computation")

    monkeypatch.setattr(pipeline, "carry_out", compute)
    monkeypatch.setattr(ensembles, "train_members", compute)
    monkeypatch.setattr(cache, "train_model", compute)
    monkeypatch.chdir(tmp_path)
    # As for a console script: the working directory is not on the path.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def refused(workplace, capsys):
    """Run a command line that must be refused at once; returns the one line of its error."""

    def run(*arguments):
        before = sorted(workplace.rglob("*"))
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        shown = capsys.readouterr()
        assert stopped.value.code == 2
        assert shown.out == ""
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1
        assert sorted(workplace.rglob("*")) == before
        return shown.err

    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Run a small deletion; the arguments are `ltu_jax.unlearn`'s."""

    def run(**options):
        return ltu_jax.unlearn(
            **{
                "data": tiny.table(),
                "forget": tiny.FORGOTTEN,
                "config": tiny.TINY_LTU,
                "epochs": 2,
                "quiet": True,
                "out": tmp_path_factory.mktemp("runs") / "run",
                **options,
            }
        )

    return run


@pytest.fixture(scope="session")
def complete(small_run):
    """The result of a complete small deletion, references included."""
    return small_run()
