"""A deletion whose training set stays on disk is the one whose training set is in memory."""

import json

import jax
import numpy as np
import pytest

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.plan_model import trace
from ltu_jax.training.checkpoint import restore
from tests import tiny
from tests.data.conftest import ToyImages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    ToyImages(data_dir=folder, size=90).download_and_prepare(file_format="array_record")
    return str(folder)


@pytest.fixture(scope="module")
def runs(folder, small_run):
    return [
        small_run(
            data="toy_images",
            data_dir=folder,
            forget=ltu_jax.by_group("sensor", "3"),
            model="mlp",
            recipe=ltu_jax.Recipe(epochs=2, batch_size=32),
            epochs=None,
            stream=stream,
        ).folder
        for stream in (False, True)
    ]


def test_networks_and_report_are_equal(runs):
    plan = load_plan(runs[0])
    like = trace(plan.model, plan.dataset)
    for name in ("original", "retrain", "retrain_2", "unlearned"):
        one, other = (jax.tree.leaves(restore(run / name, like)) for run in runs)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    one, other = (json.loads((run / "report.json").read_text())["rows"] for run in runs)
    for a, b in zip(one, other, strict=True):
        assert a.pop("seconds") > 0 < b.pop("seconds")
        assert a == b


def test_the_run_is_read_back_on_disk_and_audited(runs):
    plan = load_plan(runs[1])
    assert type(plan.dataset.train.inputs).__name__ == "OnDisk"
    found = ltu_jax.audit_run(runs[1], quiet=True)
    assert found["population"]


def test_an_ensemble_says_that_it_needs_the_images_in_memory(runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["ensemble", "--run", str(runs[1]), "--ensembles", str(tmp_path / "x"), "--quiet"])
    assert stopped.value.code == 2
    assert "needs all 90 training images in memory" in capsys.readouterr().err


def test_a_data_set_made_in_python_is_in_memory():
    with pytest.raises(InputError, match=r"^stream: "):
        ltu_jax.unlearn(tiny.table(), tiny.FORGOTTEN, stream=True)
