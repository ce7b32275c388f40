"""Compiled programs are kept where they should be, and found again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
