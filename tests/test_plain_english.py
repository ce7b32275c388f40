"""Plain English: no private words in the package, the experiments, the README or the pages."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A word that readers would have to translate, and what to write instead.
INSTEAD = {
    r"told|tells? of|is told": "says, reports, distinguished",
    r"anew": "again, from scratch",
    r"beside": "next to, with, also",
    r"g(?:oes|one|oing|o) on (?:with|from|in)|went on (?:with|from)": "continue(s), resume(s)",
    r"c(?:ome|omes|ame) about": "is made, arises",
    r"in earnest": "real",
    r"of (?:its|their) own (?:kind|kinds)": "distinct subpopulation",
    r"whoever": "anyone who, an attacker who",
    r"stand[-_ ]?ins?": "surrogate targets",
    r"coins?|toss(?:ed|es)?": "inclusion bits",
    r"couples?": "paired models, pairs",
    r"shake[ns]?": "weight noise",
    r"sureness": "mean margin",
    r"too familiar|too unknown": "under-unlearned, over-unlearned",
    r"judges?|judged": "reference models",
    r"owes|owed": "depends on, requires",
    r"hangs? (?:on|together)": "depend(s) on",
    r"has a say|have a say": "affects",
    r"knobs?": "option, hyperparameter",
    r"economical": "rematerialised, micro-batched",
}
BANNED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)


def pages():
    """Return the files that people read; the result files are data."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    places = (
        "ltu_jax/",
        "docs/",
        "experiments/",
        "notebooks/",
        "README",
        "CONTRIBUTING",
        "SECURITY",
    )
    kinds = (".py", ".md", ".ipynb", ".toml")
    return [
        name
        for name in listed
        if name.startswith(places) and name.endswith(kinds)
        if not name.startswith("experiments/results/")
    ]


@pytest.mark.parametrize("name", pages())
def test_no_private_words(name):
    text = (ROOT / name).read_text()
    found = [
        f"{number}: {match.group()!r}"
        for number, line in enumerate(text.splitlines(), start=1)
        for match in BANNED.finditer(line)
    ]
    assert found == []
