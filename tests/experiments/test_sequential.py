"""The script behind docs/sequential.png: it goes on where it was stopped, and its ledger holds."""

import json

import numpy as np
import pytest

from experiments.lib.provenance import ROOT
from experiments.operation import sequential
from ltu_jax.errors import InputError
from ltu_jax.runs import pipeline
from tests.runs.test_resume_run import Killed, killed

pytestmark = pytest.mark.experiments

RESULTS = ROOT / "experiments/results/sequential.json"


def test_a_quick_run_that_is_stopped_goes_on(tmp_path, monkeypatch):
    command = ["digits", "--quick", "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    record = pipeline.record

    def killed_in_the_second(plan, *others):
        return record(plan, *others) if plan.earlier is None else killed()

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "record", killed_in_the_second)
        with pytest.raises(Killed):
            sequential.main(command)
    sequential.main(command)
    path = tmp_path / "experiments/results/sequential.json"
    results = json.loads(path.read_text(encoding="utf-8"))["digits"]
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert results["ledger"] == {"unchecked": [], "entries": 3}
    requests = results["requests"]
    assert [request["drift"]["forgotten"] for request in requests] == [3, 6, 9]
    assert [one["parent"] for one in requests[1:]] == [one["child"] for one in requests[:-1]]
    assert all(request["metrics"]["floor"] is not None for request in requests)
    assert (tmp_path / "docs/sequential.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_another_setting_are_not_gone_on_with(tmp_path):
    sequential.check_same(sequential.SETTINGS["digits"], tmp_path)
    sequential.check_same(sequential.SETTINGS["digits"], tmp_path)
    with pytest.raises(InputError, match="holds runs of another setting; delete the folder"):
        sequential.check_same(sequential.SETTINGS["cifar10"], tmp_path)


def test_requests_are_disjoint():
    ids = np.arange(1195).astype(str)
    requests = sequential.draw_requests(sequential.SETTINGS["digits"], ids)
    assert [len(request) for request in requests] == [12] * 20
    assert len({name for request in requests for name in request}) == 240


@pytest.mark.parametrize("name", json.loads(RESULTS.read_text()) if RESULTS.exists() else ())
def test_the_results_in_the_repository_are_a_whole_chain(name):
    found = json.loads(RESULTS.read_text(encoding="utf-8"))[name]
    assert found["ledger"] == {"unchecked": [], "entries": found["config"]["requests"]}
    assert found["source"]["git"]["dirty"] is False
    requests = found["requests"]
    assert [request["entry"] for request in requests] == list(range(1, 21))
    assert [one["parent"] for one in requests[1:]] == [one["child"] for one in requests[:-1]]
