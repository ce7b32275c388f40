"""One small deletion, run once and looked at by many tests."""

import jax
import pytest

import ltu_jax
from tests import tiny


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory):
    """Compile every program of the session's small deletions once: compiling is all their cost."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def small_run(compiled_once, tmp_path_factory):
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
