"""The poison is where it should be, and a model learns it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.attacks import backdoor
from experiments.lib import tables

pytestmark = pytest.mark.experiments

DIGITS = backdoor.SETTINGS["digits"]


def test_poison_has_trigger_and_target_and_the_test_set_has_neither():
    data = backdoor.poisoned(DIGITS, 0, None)
    flags = data.groups["poisoned"]
    assert flags.sum() == round(0.05 * len(flags))
    assert (data.train.labels[flags] == DIGITS.target).all()
    assert (data.train.inputs[flags][:, -2:, -2:] == 255).all()
    clean = backdoor.ltu_jax.load("digits")
    np.testing.assert_array_equal(data.heldout.inputs, clean.heldout.inputs)
    np.testing.assert_array_equal(data.train.inputs[~flags], clean.train.inputs[~flags])
    assert (clean.train.labels[flags] != DIGITS.target).all()
    others = (clean.heldout.labels != DIGITS.target).sum()
    assert data.triggered.inputs.shape == (others, 8, 8, 1)
    assert (data.triggered.inputs[:, -2:, -2:] == 255).all()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("backdoor"))
        patch.setattr(backdoor, "keep_programs", lambda: None)
        backdoor.main(["digits", "--quick"])
        return json.loads((backdoor.Path("runs") / "backdoor.json").read_text())


def test_the_original_has_the_backdoor_and_retrain_has_not(quick):
    found = {row["method"]: row for row in quick["digits"]["rows"]}
    assert list(found) == ["original", "retrain", "retrain_2", "finetune", "ssd"]
    assert found["original"]["attack_success"] > 90
    assert found["retrain"]["attack_success"] < 20
    assert found["retrain"]["ta"] > 90


def test_the_table_has_every_model_and_a_failure(quick):
    part = quick["digits"]
    part["rows"][-1] = {**part["rows"][-1], "failure": "diverged"}
    text = tables.backdoors(quick)
    for name in ("Original", "Second Retrain", "`finetune`", "`ssd` | failed"):
        assert name in text


def test_without_trials_methods_have_their_defaults():
    chosen = backdoor.choose(replace(DIGITS, trials=0, methods=("ssd",)), None)
    assert chosen["ssd"] == backdoor.unlearners.find("ssd").config
