"""Compiled programs are kept where they should be, and found again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltu_jax.cli import compilation_cache

ROOT = Path(__file__).parents[2]
CODE = """
import json
import jax
from pathlib import Path
from ltu_jax.cli import compilation_cache as programs

programs.LEAST_SECONDS = 0.0
programs.keep_programs({folder})
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
value = float(jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.ones([3, 4])))
found = sum(event == "/jax/compilation_cache/cache_hits" for event in hits)
print(json.dumps([jax.config.jax_compilation_cache_dir, value, found]))
"""


def run(folder, **environment):
    """Compile something in a new process: where programs are kept, the result, hits."""
    without = {name: text for name, text in os.environ.items() if "CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(folder=folder)],
        env={**without, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_what_one_process_compiled_the_next_one_finds(tmp_path):
    first = run(None, XDG_CACHE_HOME=str(tmp_path))
    again = run(None, XDG_CACHE_HOME=str(tmp_path))
    assert first == [str(tmp_path / "ltu_jax" / "programs"), 36.0, 0]
    assert again[:2] == first[:2]
    assert again[2] > 0


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda data: data[:9], lambda data: b"", lambda data: b"no"])
def test_damaged_programs_are_compiled_again(tmp_path, damage):
    first = run(None, XDG_CACHE_HOME=str(tmp_path))
    for path in (tmp_path / "ltu_jax" / "programs").glob("*-cache"):
        path.write_bytes(damage(path.read_bytes()))
    assert run(None, XDG_CACHE_HOME=str(tmp_path)) == [*first[:2], 0]


@pytest.mark.parametrize(
    ("folder", "environment", "where"),
    [
        (None, {"XDG_CACHE_HOME": "", "HOME": "HERE"}, ".cache/ltu_jax/programs"),
        ("Path('HERE/mine')", {}, "mine/programs"),
        ("Path('HERE/mine')", {"JAX_COMPILATION_CACHE_DIR": "HERE/other"}, "other"),
    ],
)
def test_where_they_are_kept(tmp_path, folder, environment, where):
    folder = folder and folder.replace("HERE", str(tmp_path))
    environment = {name: text.replace("HERE", str(tmp_path)) for name, text in environment.items()}
    assert run(folder, **environment)[0] == str(tmp_path / where)


@pytest.mark.parametrize("cache", ["/proc/nowhere", "/dev/null/cache"])
def test_a_folder_that_cannot_be_written_is_not_used(cache):
    assert run(None, XDG_CACHE_HOME=cache) == [None, 36.0, 0]


def test_a_user_without_a_home_keeps_nothing(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    assert compilation_cache._user_folder() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "command"),
    [("tpu", ["unlearn", "--dry-run"]), ("no_such_platform", ["selfcheck"])],
)
def test_a_platform_that_jax_lacks_is_refused_in_one_line(tmp_path, platform, command):
    done = subprocess.run(
        [sys.executable, "-m", "ltu_jax", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: JAX_PLATFORMS: is {platform}")
    assert list(tmp_path.iterdir()) == []
