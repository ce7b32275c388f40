"""The script that kills and damages runs: two kills, four damages, and the numbers it writes."""

import json
import random

import pytest

from experiments.operation import faults

pytestmark = pytest.mark.experiments

RESULTS = faults.ROOT / "experiments/results/faults.json"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    faults.main(["--kills", "1", "--corruptions", "4", "--out", str(out)])
    return json.loads(out.read_text(encoding="utf-8"))


def test_killed_runs_end_as_if_undisturbed(results):
    assert results["kills"] == results["identical"] == 1
    assert sum(results["killed_in"].values()) == 1


def test_every_damage_raises_a_warning_and_none_is_used(results):
    assert results["corruptions"] == results["recognised"] == 4
    assert results["loaded_bad"] == 0
    assert results["corrupted_by"] == {"truncate": 1, "flip_a_bit": 1, "lose": 1, "swap": 1}


def test_a_bad_disk_gives_one_line_and_damages_nothing(results):
    # A run on a read-only disk is refused at once; a full disk is found when it is written to.
    for disk, code in {"full_disk": 1, "read_only_disk": 2}.items():
        if disk in results:
            found = results[disk]
            assert found["exit"] == code
            assert found["error"].startswith("error: ")
            assert found["earlier_intact"]
    assert results.get("identical_afterwards", True)


def test_results_say_what_they_were_made_by(results):
    assert results["source"]["command"].endswith("--kills 1 --corruptions 4")
    assert {"jax", "orbax-checkpoint"} <= results["source"]["versions"].keys()
    assert results["config"]["kills"] == 1


@pytest.fixture
def stopped(tmp_path):
    """Two folders that look like stopped runs."""
    for run in ("one", "other"):
        for folder in ("original", "running/unlearned/000000005", "running/unlearned/000000010"):
            (tmp_path / run / folder).mkdir(parents=True)
            (tmp_path / run / folder / "array").write_text(f"{run} {folder}")
    return tmp_path / "one", tmp_path / "other"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("damage", [faults.truncate, faults.flip_a_bit, faults.lose, faults.swap])
def test_a_damage_changes_what_a_resumed_run_would_read(damage, seed, stopped):
    def read():
        parts = [faults.checkpoints(stopped[0])[-1], stopped[0] / "original"]
        return [[path.read_bytes() for path in part.iterdir()] for part in parts]

    before = read()
    damage(*stopped, random.Random(seed))
    assert read() != before


@pytest.mark.skipif(not RESULTS.exists(), reason="no results are committed")
def test_the_results_that_are_committed_are_without_fault():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["kills"] == results["identical"] > 0
    assert results["corruptions"] == results["recognised"] > 0
    assert results["loaded_bad"] == 0
