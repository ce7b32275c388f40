"""Reference outputs of other people's tools, for `test_golden.py`.

`LTU_GOLDEN_DIR` names a folder of cases and `LTU_GOLDEN_SUFFIX` which of them (default `open`);
without it the copies next to this file are taken.
"""

import os
from pathlib import Path

import numpy as np
import pytest

COPIES = Path(__file__).parent / "golden_cases"


def load(case: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case; the test is skipped where there is no such file."""
    folder = Path(os.environ.get("LTU_GOLDEN_DIR", COPIES))
    path = folder / f"{case}_{os.environ.get('LTU_GOLDEN_SUFFIX', 'open')}.npz"
    if not path.exists():
        pytest.skip(f"no golden case {path.name} in {folder}")
    with np.load(path) as arrays:
        return dict(arrays)
