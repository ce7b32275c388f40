"""The tables of docs/statistical_power.md: their numbers are the audit's."""

import json
import math

import numpy as np
import pytest

from experiments.attacks import limits
from experiments.lib.provenance import ROOT
from experiments.lib.results_table import replace_block
from ltu_jax.audit import bounds

pytestmark = pytest.mark.experiments

RESULTS = ROOT / "experiments/results/limits.json"
PAGE = ROOT / "docs/statistical_power.md"


def test_quick_run_writes_numbers_figures_and_page(tmp_path):
    page = tmp_path / "docs" / "statistical_power.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- results:start -->\nold\n<!-- results:end -->\nafter\n")
    limits.main(["--quick", "--out", str(tmp_path)])
    text = (tmp_path / "experiments/results/limits.json").read_text(encoding="utf-8")
    results = json.loads(text)
    assert str(tmp_path) not in text
    assert (
        page.read_text()
        == f"before\n<!-- results:start -->\n{limits.tables(results)}<!-- results:end -->\nafter\n"
    )
    for figure in ("floor", "epsilon"):
        assert (page.parent / f"limits_{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_floors_are_what_samples_of_one_distribution_exceed_in_5_percent():
    n_in, n_out, draws = 300, 400, 2000
    floor = limits.floors(n_in, n_out)
    assert floor["balanced_accuracy"] == bounds.balanced_accuracy_floor(n_in, n_out)
    rng = np.random.default_rng(0)
    threshold = np.sort(rng.random((draws, n_out)), axis=1)[:, -(math.floor(0.01 * n_out) + 1)]
    tpr = np.mean(rng.random((draws, n_in)) > threshold[:, None], axis=1)
    assert np.mean(tpr > floor["tpr_at_1_fpr"]) < 0.065
    assert np.mean(tpr >= floor["tpr_at_1_fpr"]) > 0.035


def test_limits_fall_with_size():
    sizes = [limits.floors(n, n) for n in (50, 500, 5000)]
    assert all(np.all(np.diff([row[name] for row in sizes]) < 0) for name in sizes[0])
    models = [limits.of_models(n) for n in (32, 64, 512)]
    assert [round(row["certifiable"], 1) for row in models] == [2.1, 2.8, 4.9]
    assert models[1]["certifiable_split"] == models[0]["certifiable"]
    assert limits.of_models(4)["detectable"] is None
    # The retained examples are the short side where nearly all is forgotten.
    most = limits.at_ratio(0.9)
    assert most["retain_side"]["ks"] > most["test_side"]["ks"]


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed")
def test_the_page_shows_the_results_that_are_committed():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    assert replace_block(text, "results", limits.tables(results)) == text
