"""A whole deletion: what it leaves, and that it is the same every time."""

import json

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.runs import models
from ltu_jax.runs.folder import RunFolder, RunState
from ltu_jax.runs.progress import Progress
from ltu_jax.training.checkpoint import restore
from ltu_jax.training.supervised import predict
from tests import tiny
from tests.runs.test_plan import make

NETWORKS = ["original", "retrain", "retrain_2", "ltu"]


def shapes(variables):
    return jax.tree.map(np.shape, variables)


def leaves(variables):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]


def numbers(result):
    """Everything in the rows of a result except wall times."""
    return {name: row._replace(seconds=0.0) for name, row in result.metrics.items()}


@pytest.fixture(scope="module")
def from_checkpoint(small_run, complete):
    """A run that starts from another run's original and trains no reference."""
    return small_run(checkpoint=complete.folder / "original", reference="none")


def test_a_run_leaves_these_files(complete):
    left = {path.name for path in complete.folder.iterdir()}
    assert left == {
        *("original", "retrain", "retrain_2", "unlearned"),
        *("run.json", "request.json", "split.npz", "scores.npz", "metrics.jsonl"),
        *("report.json", "report.html", "figures", "ledger.jsonl", "ledger.salts.json"),
    }
    figures = list((complete.folder / "figures").iterdir())
    assert len(figures) >= 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


@pytest.mark.parametrize("name", ["original", "retrain", "retrain_2", "unlearned"])
def test_checkpoints_hold_parameters_and_state_and_nothing_else(complete, name):
    from orbax.checkpoint import v1 as ocp

    stored = ocp.metadata(complete.folder / name).metadata
    expected = shapes(complete.unlearned._asdict())
    found = {
        jax.tree_util.keystr(path): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_flatten_with_path(stored)[0]
    }
    assert found == {
        jax.tree_util.keystr(path): shape
        for path, shape in jax.tree_util.tree_flatten_with_path(
            expected, is_leaf=lambda x: isinstance(x, tuple)
        )[0]
    }
    restored = restore(complete.folder / name, complete.unlearned)
    assert shapes(restored) == shapes(complete.unlearned)


def test_the_exported_network_is_the_one_returned_and_audited(complete):
    restored = restore(complete.folder / "unlearned", complete.unlearned)
    for stored, returned in zip(leaves(restored), leaves(complete.unlearned), strict=True):
        np.testing.assert_array_equal(stored, returned)
    heldout = tiny.table().heldout
    logits = np.asarray(predict(complete.model, restored, heldout.inputs[complete.split.test]))
    correct = logits.argmax(-1) == heldout.labels[complete.split.test]
    assert complete.metrics["unlearned"].ta == pytest.approx(100 * correct.mean())


def test_the_method_changed_the_original(complete):
    original = restore(complete.folder / "original", complete.unlearned)
    for before, after in zip(leaves(original), leaves(complete.unlearned), strict=True):
        assert not np.array_equal(before, after)


def test_the_split_is_saved_and_forgets_what_was_asked(complete):
    saved = ltu_jax.data.request.load_split(complete.folder / "split.npz")
    for stored, returned in zip(saved, complete.split, strict=True):
        np.testing.assert_array_equal(stored, returned)
    np.testing.assert_array_equal(saved.forget, np.arange(0, 120, 10))


def test_no_text_of_a_run_holds_an_id(complete):
    texts = [p for p in complete.folder.rglob("*") if p.suffix in (".json", ".jsonl", ".html")]
    assert len(texts) >= 4
    for path in texts:
        assert "patient-" not in path.read_text(encoding="utf-8")
    request = json.loads((complete.folder / "request.json").read_text())
    assert request == ltu_jax.data.request.describe(ltu_jax.by_ids(tiny.FORGOTTEN))


def test_metrics_hold_every_step_of_every_phase(complete):
    lines = (complete.folder / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    phases = {}
    for entry in entries:
        phases.setdefault(entry["phase"], []).append(entry)
    assert {name: len(rows) for name, rows in phases.items()} == {
        "train original": 2,
        "unlearn (ltu)": 3,
        "train retrain": 2,
        "train retrain_2": 2,
        "audit": 4,
    }
    for rows in phases.values():
        assert [row["step"] for row in rows] == list(range(len(rows)))
    cosines = [row["cosine"] for row in phases["unlearn (ltu)"]]
    np.testing.assert_allclose(cosines, complete.history["cosine"])


SCORES = ("confidence", "loss")


def test_scores_are_those_of_every_network_on_forget_and_test(complete):
    with np.load(complete.folder / "scores.npz") as scores:
        sizes = {name: len(values) for name, values in scores.items()}
        confidences = scores["ltu/forget_confidence"]
        np.testing.assert_allclose(confidences, np.exp(-scores["ltu/forget_loss"]))
    split = complete.split
    parts = {"forget": 12, "test": len(split.test), "retain": len(split.retain)}
    parts["accessible"] = len(split.accessible)
    parts["inaccessible"] = len(split.retain) - len(split.accessible)
    expected = {f"{part}_correct": size for part, size in parts.items()}
    expected |= {f"{one}_{s}": parts[one] for one in ("forget", "test") for s in SCORES}
    expected["members_confidence"] = parts["inaccessible"]
    names = {f"{model}/{name}": size for model in NETWORKS for name, size in expected.items()}
    assert sizes == names


def test_the_report_has_a_row_for_every_network(complete):
    rows = json.loads((complete.folder / "report.json").read_text())["rows"]
    assert [row["model"] for row in rows] == NETWORKS
    for row, returned in zip(rows, complete.metrics.values(), strict=True):
        for key in ("ua", "ra", "ta", "mia", "avg_gap", "auc", "seconds"):
            assert row[key] == pytest.approx(getattr(returned, key))
    retrain = rows[1]
    gaps = [abs(rows[3][key] - retrain[key]) for key in ("ua", "ra", "ta", "mia")]
    assert rows[3]["avg_gap"] == pytest.approx(np.mean(gaps))
    assert retrain["avg_gap"] == 0


def test_the_page_names_every_network(complete):
    page = (complete.folder / "report.html").read_text(encoding="utf-8")
    for name in ("Original", "Retrain", "Second Retrain", "LTU"):
        assert name in page


def test_without_references_there_are_no_gaps(from_checkpoint):
    rows = json.loads((from_checkpoint.folder / "report.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["original", "ltu"]
    assert all(row["avg_gap"] is None and row["gaps"] is None for row in rows)
    assert not (from_checkpoint.folder / "retrain").exists()


def test_a_run_from_a_checkpoint_has_the_same_original_and_unlearns_alike(
    complete, from_checkpoint
):
    before, after = (
        {name: row._replace(avg_gap=None, gaps=None) for name, row in numbers(run).items()}
        for run in (complete, from_checkpoint)
    )
    assert {name: before[name] for name in ("original", "unlearned")} == after
    for one, other in zip(
        leaves(complete.unlearned), leaves(from_checkpoint.unlearned), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    entries = json.loads((from_checkpoint.folder / "report.json").read_text())["rows"]
    assert entries[0]["seconds"] is None  # nobody knows how long a given network took


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(complete, small_run):
    again = small_run()
    for one, other in zip(leaves(complete.unlearned), leaves(again.unlearned), strict=True):
        np.testing.assert_array_equal(one, other)
    assert numbers(again) == numbers(complete)
    for name, values in complete.history.items():
        np.testing.assert_array_equal(values, again.history[name])


@pytest.mark.slow
def test_another_seed_gives_others(complete, small_run):
    other = small_run(seed=1, reference="none")
    for one, two in zip(leaves(complete.unlearned), leaves(other.unlearned), strict=True):
        assert not np.array_equal(one, two)
    np.testing.assert_array_equal(other.split.forget, complete.split.forget)
    assert not np.array_equal(other.split.accessible, complete.split.accessible)


def test_references_start_from_weights_of_their_own(tmp_path):
    # A vanishing learning rate leaves every network at its initial weights.
    plan = make(recipe=ltu_jax.Recipe(epochs=1, learning_rate=1e-30, weight_decay=0.0))
    with Progress(None, quiet=True) as progress:
        trained = [
            models.original_model(plan, RunState(RunFolder(tmp_path)), progress),
            models.exported_model(plan, "retrain", RunState(RunFolder(tmp_path)), progress),
            models.exported_model(plan, "retrain_2", RunState(RunFolder(tmp_path)), progress),
        ]
    kernels = [
        [leaf for leaf in leaves(network.variables.params) if abs(leaf).max() > 1e-9]
        for network in trained
    ]
    assert len(kernels[0]) == len(kernels[1]) == len(kernels[2]) == 3  # biases start at zero
    for of_one_layer in zip(*kernels, strict=True):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.mean(of_one_layer[one] == of_one_layer[other]) < 0.01


def test_references_never_see_the_forget_set(tmp_path, monkeypatch):
    plan, seen = make(forget=tiny.FORGOTTEN), {}

    def train(model, examples, recipe, *, key, on_info, saver, parallel):
        seen[name] = np.asarray(examples.inputs)
        return model.init(key, examples.inputs[:1]), {}

    monkeypatch.setattr(models, "train", train)
    with Progress(None, quiet=True) as progress:
        name = "original"
        models.original_model(plan, RunState(RunFolder(tmp_path)), progress)
        for name in ("retrain", "retrain_2"):
            models.exported_model(plan, name, RunState(RunFolder(tmp_path)), progress)
    train_inputs = plan.dataset.train.inputs
    np.testing.assert_array_equal(seen["original"], train_inputs)
    for reference in ("retrain", "retrain_2"):
        np.testing.assert_array_equal(
            seen[reference], np.delete(train_inputs, range(0, 120, 10), 0)
        )


def test_a_folder_with_another_run_is_left_alone(complete, small_run):
    before = {p: p.stat().st_mtime_ns for p in complete.folder.rglob("*")}
    with pytest.raises(ltu_jax.InputError, match=r"^out: .*holds another run"):
        small_run(out=complete.folder)
    assert {p: p.stat().st_mtime_ns for p in complete.folder.rglob("*")} == before
